"""The run folder: configuration, weights and all else that a trained network needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from halometry import hub
from halometry.calibration.conformal import Conformal, read_conformal
from halometry.config import Task, read_yaml, validate
from halometry.datasets.splits import Split, read_split
from halometry.errors import ConfigError, FormatError, RunError, UsageError, did_you_mean
from halometry.io import atomic_write, check_header, header, read_json, write_text
from halometry.log import logger
from halometry.models.predictor import Predictor
from halometry.parallel import find_device
from halometry.resources import list_weights, weights_folder
from halometry.runs.config import RunConfig
from halometry.runs.lineage import LineageEntry, read_lineage

CONFIG, WEIGHTS, SPLIT, HISTORY = "config.yaml", "weights.safetensors", "split.json", "history.csv"
METRICS, RESUME, CONFORMAL = "metrics.json", "resume.ckpt", "conformal.json"
LINEAGE = "lineage.json"

# Maps raw images (B, c, H, W) to probabilities (B, K), mass fractions (B,) or densities of mass
# fractions (B, G).
PredictFn = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Run:
    """A finished training run in its folder; see `load_run`.

    Attributes:
        path: the folder.
        config: content of its `config.yaml`.
        source: the folder, name, or address on the Hub that it was opened by.
    """

    path: Path
    config: RunConfig
    source: str

    @property
    def name(self) -> str:
        """Name of the backbone."""
        return self.config.backbone

    def check_writable(self) -> None:
        """Check that the run may be changed.

        Raises:
            UsageError: the run came with the package or from the Hub.
        """
        if Path(self.source).resolve() != self.path.resolve():
            raise UsageError(
                f"{self.source}: cannot be changed; copy {self.path} to a folder of your own, and"
                " give that"
            )

    def split(self) -> Split:
        """Rows of the dataset for training, validation, calibration and test.

        Raises:
            RunError: `split.json` is missing or damaged.
        """
        try:
            return read_split(self.path / SPLIT)
        except FormatError as error:
            raise RunError(f"{error}; train again") from error

    def lineage(self) -> list[LineageEntry]:
        """Datasets that the run's initial weights were trained on.

        Raises:
            RunError: `lineage.json` is damaged.
        """
        path = self.path / LINEAGE
        try:
            return read_lineage(path) if path.is_file() else []
        except FormatError as error:
            raise RunError(f"{error}; train again") from error

    def lineage_with_own_data(self) -> list[LineageEntry]:
        """Datasets that the run's weights were trained on: its lineage and its own dataset."""
        return [*self.lineage(), LineageEntry(self.config.data, self.split())]

    def conformal(self) -> Conformal | None:
        """Conformal scores of the run; None where it is not calibrated.

        Raises:
            RunError: `conformal.json` is damaged.
        """
        path = self.path / CONFORMAL
        return read_conformal(path) if path.is_file() else None

    def training_metrics(self) -> dict[str, Any]:
        """Content of `metrics.json`: metrics of training; for published weights also of the test.

        Raises:
            RunError: `metrics.json` is damaged.
        """
        try:
            return read_json(self.path / METRICS, "training")
        except FormatError as error:
            raise RunError(str(error)) from error

    def predictor(self, device: str = "cpu") -> Predictor:
        """Return the trained predictor in evaluation mode.

        Raises:
            RunError: the weights are missing, damaged, or of another network.
        """
        network = self.config.build_network()
        load_weights(self.path, network)
        memory_format = self.config.execution.memory_format
        predictor = self.config.build_predictor(network).to(device)
        return predictor.to(memory_format=memory_format).eval()

    def predict_fn(self, device: str = "auto") -> PredictFn:
        """Return a function that maps raw images to predictions, both NumPy arrays.

        Args:
            device: `auto`, `cpu`, or as PyTorch names it.

        Raises:
            RunError: the weights are missing, damaged, or of another network.
            UsageError: the device does not exist here.
        """
        where = find_device(device)
        predictor = self.predictor(where)

        def predict(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                predictions: Tensor = predictor(torch.from_numpy(images).to(where))
                return predictions.cpu().numpy()

        return predict


def load_weights(
    path: Path, network: nn.Module, *, part: str = "", optional: re.Pattern[str] | None = None
) -> None:
    """Load the weights of a run folder into a network.

    Args:
        path: the folder.
        network: the network, or a part of it, such as its backbone.
        part: name of that part in the network; empty for the whole network.
        optional: pattern of weights that may be missing in the folder, and then stay as they are.

    Raises:
        RunError: the weights are missing, damaged, or of another network.
    """
    file, prefix = path / WEIGHTS, f"{part}." if part else ""
    try:
        tensors = load_file(file).items()
        keys = network.load_state_dict(
            {key.removeprefix(prefix): value for key, value in tensors if key.startswith(prefix)},
            strict=optional is None,
        )
        if optional is not None:  # otherwise `strict` has checked this
            missing = [key for key in keys.missing_keys if not optional.search(key)]
            if missing or keys.unexpected_keys:
                raise RuntimeError(f"{missing} missing, {keys.unexpected_keys} unexpected")
    except (OSError, SafetensorError) as error:
        raise RunError(f"{file}: cannot be read ({error}); train again") from error
    except RuntimeError as error:
        raise RunError(
            f"{file}: does not fit this network (another head, or other channels)"
        ) from error


def load_run(path: str | Path, task: Task | None = None) -> Run:
    """Open a run.

    Args:
        path: the folder that `train` or `publish` wrote; the name of weights that come with the
            package (`halometry.list_weights()`), unless there is such a folder here; or
            `hf://USER/REPO`, on the Hugging Face Hub.
        task: raise if the run is of another task.

    Raises:
        RunError: not a run, not finished, damaged, or of the other task.
        UnavailableError: it is on the Hub and cannot be fetched.
    """
    source = str(path) if hub.is_address(path) else str(Path(path))
    folder = _find_folder(source)
    if not (folder / CONFIG).is_file():
        raise RunError(f"{source}: is not a run folder (it has no {CONFIG})")
    config = read_config(folder)
    if not is_finished(folder):
        raise RunError(f"{source}: training has not finished; repeat its 'train' command to go on")
    if task is not None and config.task != task:
        raise RunError(f"{source}: is a run for {config.task}, not for {task}")
    return Run(folder, config, source)


def _find_folder(source: str) -> Path:
    """Return the folder of a path, a name, or an address.

    Raises:
        RunError: there is none.
        UnavailableError: it is on the Hub and cannot be fetched.
    """
    if hub.is_address(source):
        return hub.fetch(source)
    path, known = Path(source), list_weights()
    if path.is_dir():
        if path.as_posix() in known:
            logger.info(
                f"{source}: the folder here, not the weights of that name that come with halometry"
            )
        return path
    if path.as_posix() in known:
        return weights_folder(path.as_posix())
    otherwise = "give the folder that 'halometry train' wrote, or a name from 'halometry weights'"
    hint = did_you_mean(path.as_posix(), known, otherwise)
    raise RunError(f"{source}: no such folder; {hint}")


def is_finished(path: Path) -> bool:
    """Whether training in a run folder has ended."""
    return (path / METRICS).is_file() and not (path / RESUME).exists()


def is_run_folder(path: Path) -> bool:
    """Whether `train` made a folder, finished or not, damaged or not."""
    try:
        return read_yaml(path / CONFIG).get("format") == header("run")["format"]
    except ConfigError:
        return False


def read_config(path: Path) -> RunConfig:
    """Read the `config.yaml` of a run folder.

    Raises:
        RunError: it is damaged, or of another format.
    """
    try:
        content = read_yaml(path / CONFIG)
        check_header(content, "run", path / CONFIG)
        return validate(RunConfig, content, str(path / CONFIG))
    except (ConfigError, FormatError) as error:
        raise RunError(str(error)) from error


def write_config(path: Path, config: RunConfig) -> None:
    """Write `config.yaml` to a run folder."""
    content = yaml.dump(
        config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True
    )
    write_text(path / CONFIG, content)


class _Dumper(yaml.SafeDumper):
    """YAML dumper that keeps the lines of long text, such as a preset."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if text.count("\n") > 1 else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def write_weights(path: Path, network: nn.Module) -> None:
    """Write the weights of a network as safetensors."""
    write_tensors(path, network.state_dict(), "weights")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], name: str) -> None:
    """Write tensors as safetensors, with the header of a format in the metadata.

    Args:
        path: the file.
        tensors: the tensors by name.
        name: a format of `halometry.io.FORMATS`.

    Raises:
        StorageError: no room or no permission.
    """
    content = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    metadata = {key: str(value) for key, value in header(name).items()}
    with atomic_write(path) as partial:
        save_file(content, partial, metadata)
