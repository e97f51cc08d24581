"""Out-of-distribution (OOD) detection: the detector and the image statistics that it uses."""
