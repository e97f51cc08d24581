"""A run in one ONNX file, which predicts and is judged like the folder it was made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from halometry.calibration.conformal import Conformal, parse_conformal
from halometry.config import validate
from halometry.datasets.splits import Split
from halometry.errors import ConfigError, RunError
from halometry.models.onnx import AT_ONCE, OnnxPredictor
from halometry.runs.config import RunConfig
from halometry.runs.lineage import LineageEntry, lineage_from_dict
from halometry.runs.run import Answerer

SUFFIX = ".onnx"
FORMAT, FORMAT_VERSION = "halometry-onnx", 1


@dataclass(frozen=True)
class ExportedRun:
    """What `export` made of a run; see `load_exported`.

    Attributes:
        path: the file.
        config: of the run it was made from.
        metadata: all that the file says of itself.
    """

    path: Path
    config: RunConfig
    metadata: dict[str, str]

    @property
    def name(self) -> str:
        return self.config.backbone

    @property
    def source(self) -> str:
        return str(self.path)

    def split(self) -> Split:
        """Which images of its set trained the run, chose its checkpoint, and were kept aside.

        Raises:
            RunError: the file does not say.
        """
        try:
            return Split.from_dict(json.loads(self.metadata["split"]))
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.path}: does not say how its images were split") from error

    def lineage(self) -> list[LineageEntry]:
        """What the runs that it was begun from had learnt from.

        Raises:
            RunError: it is damaged.
        """
        text = self.metadata.get("lineage")
        try:
            return [] if text is None else lineage_from_dict(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.path}: its lineage cannot be read ({error!r})") from error

    def conformal(self) -> Conformal | None:
        """What sets and intervals with a guarantee are made from, if the run had it.

        Raises:
            RunError: it is damaged.
        """
        text = self.metadata.get("conformal")
        return None if text is None else parse_conformal(text, self.path)

    def answerer(self, device: str = "auto") -> Answerer:
        """What maps raw images to answers, by ONNX Runtime.

        Raises:
            UsageError: the device does not exist here, or not for ONNX Runtime.
        """
        at_once = 1 if self.config.recipe.tta else AT_ONCE  # in eight forms each
        return OnnxPredictor(self.path, str(self.path), device, at_once)


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
    if metadata.get("format") != FORMAT:
        raise RunError(
            f"{path}: is an ONNX file, but not one that 'halometry export' wrote (it does not say"
            " what its answers mean)"
        )
    try:
        config = validate(RunConfig, json.loads(metadata["run"]), str(path))
    except (ConfigError, ValueError, KeyError) as error:
        version = metadata.get("halometry_version", "an unknown version")
        raise RunError(
            f"{path}: cannot be used here ({error}); it was written by halometry {version}"
        ) from error
    return ExportedRun(path, config, metadata)
