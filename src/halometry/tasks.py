"""The two questions asked of an image."""

from __future__ import annotations

from typing import Literal

Task = Literal["classification", "regression"]
TASKS: tuple[Task, ...] = ("classification", "regression")
