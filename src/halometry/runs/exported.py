"""Exported run: a run in one ONNX file, which predicts like the folder it was made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from halometry.calibration.conformal import Conformal, validate_conformal
from halometry.config import validate
from halometry.datasets.splits import Split
from halometry.errors import ConfigError, FormatError, RunError
from halometry.io import check_header
from halometry.models.onnx import CPU_BATCH_SIZE, OnnxPredictor
from halometry.runs.config import RunConfig
from halometry.runs.lineage import LineageEntry, lineage_from_dict
from halometry.runs.run import PredictFn

ONNX_SUFFIX = ".onnx"


@dataclass(frozen=True)
class ExportedRun:
    """Run in an ONNX file that `export` wrote; see `load_exported`.

    Attributes:
        path: the file.
        config: configuration of the run that it was made from.
        metadata: metadata of the file.
    """

    path: Path
    config: RunConfig
    metadata: dict[str, str]

    @property
    def name(self) -> str:
        """Name of the backbone."""
        return self.config.backbone

    @property
    def source(self) -> str:
        """Path of the file."""
        return str(self.path)

    def split(self) -> Split:
        """Rows of the dataset for training, validation, calibration and test.

        Raises:
            RunError: the metadata have none.
        """
        try:
            return Split.from_dict(json.loads(self.metadata["split"]))
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.path}: its split cannot be read ({error!r})") from error

    def lineage(self) -> list[LineageEntry]:
        """Datasets that the run's initial weights were trained on.

        Raises:
            RunError: it is damaged.
        """
        text = self.metadata.get("lineage")
        try:
            return [] if text is None else lineage_from_dict(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.path}: its lineage cannot be read ({error!r})") from error

    def conformal(self) -> Conformal | None:
        """Conformal scores of the run; None where it is not calibrated.

        Raises:
            RunError: they are damaged.
        """
        text = self.metadata.get("conformal")
        try:
            return None if text is None else validate_conformal(json.loads(text), self.path)
        except (ValueError, AttributeError) as error:
            raise RunError(f"{self.path}: its conformal scores cannot be read") from error

    def predict_fn(self, device: str = "auto") -> PredictFn:
        """Return a function that maps raw images to predictions, by ONNX Runtime.

        Raises:
            UsageError: the device does not exist here, or not for ONNX Runtime.
        """
        batch_size = 1 if self.config.recipe.tta else CPU_BATCH_SIZE  # tta takes eight copies
        return OnnxPredictor(self.path, str(self.path), device, batch_size)


def load_exported(path: str | Path) -> ExportedRun:
    """Open a file that `export` wrote.

    Raises:
        RunError: there is none, it is damaged, or another program's.
        UnavailableError: ONNX Runtime is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"{path}: no such file; give one that 'halometry export' wrote")
    metadata = dict(OnnxPredictor(path, str(path), "cpu").metadata)
    try:
        check_header(metadata, "onnx", path)
    except FormatError as error:
        raise RunError(f"{error}; give one that 'halometry export' wrote") from error
    try:
        config = validate(RunConfig, json.loads(metadata["run"]), str(path))
    except (ConfigError, ValueError, KeyError) as error:
        version = metadata.get("halometry_version", "an unknown version")
        raise RunError(
            f"{path}: cannot be used here ({error}); it was written by halometry {version}"
        ) from error
    return ExportedRun(path, config, metadata)
