"""The packages that the bytes of simulated images follow from."""

from __future__ import annotations
