"""halometry: dark matter read from images of strong gravitational lenses."""

__version__ = "0.1.0"
