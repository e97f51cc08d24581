"""Out-of-distribution detection: how unlike its training images an image is."""
