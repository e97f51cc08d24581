"""The networks that several tests of evaluation compare, and how they are trained."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, Any] = {"epochs": 1, "size": 32, "precision": "float32", "channels_last": True}
NETWORKS = ["mobilenetv3_small", "resnet18"]
