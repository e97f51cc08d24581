"""The packages that the bytes of simulated images follow from."""

from __future__ import annotations

from importlib.metadata import version

from halometry import __version__

PACKAGES = ("torch", "caustics", "numpy")


def versions() -> dict[str, str]:
    """The attribute of a store that names each package, and its version here."""
    found = {f"{name}_version": version(name) for name in PACKAGES}
    return {"halometry_version": __version__, **found}
