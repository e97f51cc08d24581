"""The run folder: all that is needed to predict with a trained network, judge it, or go on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
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
from halometry.calibration.conformal import Conformal, parse_conformal
from halometry.config import Task, read_yaml, validate
from halometry.datasets.splits import Split, read_split
from halometry.errors import ConfigError, FormatError, RunError, UsageError, did_you_mean
from halometry.io import atomic_write, write_text
from halometry.log import logger
from halometry.models.predictor import Predictor
from halometry.parallel import find_device
from halometry.resources import list_weights, weights_folder
from halometry.runs.config import FORMAT, RunConfig
from halometry.runs.lineage import LineageEntry, read_lineage

CONFIG, WEIGHTS, SPLIT, HISTORY = "config.yaml", "weights.safetensors", "split.json", "history.csv"
METRICS, RESUME, CONFORMAL = "metrics.json", "resume.ckpt", "conformal.json"
LINEAGE = "lineage.json"

# Raw images (B, c, H, W) to probabilities (B, K), mass fractions (B,), or their densities (B, G).
Answerer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder; see `load_run`.

    Attributes:
        path: the folder.
        config: what it says of itself.
        source: what it was asked for by: the folder, a name, or an address on the Hub.
    """

    path: Path
    config: RunConfig
    source: str

    @property
    def name(self) -> str:
        return self.config.backbone

    def check_own(self) -> None:
        """Refuse to change a run that came with the package or from the Hub.

        Raises:
            UsageError: it did; a copy of its folder may be changed.
        """
        if Path(self.source).resolve() != self.path.resolve():
            raise UsageError(
                f"{self.source}: stays as it came; copy {self.path} to a folder of your own, and"
                " give that"
            )

    def split(self) -> Split:
        """Which images of its set trained it, chose its checkpoint, and were kept for the test.

        Raises:
            RunError: `split.json` is missing or damaged.
        """
        try:
            return read_split(self.path / SPLIT)
        except FormatError as error:
            raise RunError(f"{error}; train again") from error

    def lineage(self) -> list[LineageEntry]:
        """What the runs that it was begun from had learnt from; nothing of those of old versions.

        Raises:
            RunError: `lineage.json` is damaged.
        """
        path = self.path / LINEAGE
        try:
            return read_lineage(path) if path.is_file() else []
        except FormatError as error:
            raise RunError(f"{error}; train again") from error

    def lineage_with_own_data(self) -> list[LineageEntry]:
        """The lineage of a run that starts from this run's weights."""
        return [*self.lineage(), LineageEntry(self.config.data, self.split())]

    def conformal(self) -> Conformal | None:
        """What sets and intervals with a guarantee are made from; None of runs without it.

        Raises:
            RunError: `conformal.json` is damaged.
        """
        path = self.path / CONFORMAL
        return parse_conformal(path.read_text("utf-8"), path) if path.is_file() else None

    def record(self) -> dict[str, Any]:
        """What training was like; of published weights also how good they are.

        Raises:
            RunError: `metrics.json` is damaged.
        """
        try:
            record: dict[str, Any] = json.loads((self.path / METRICS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / METRICS}: cannot be read ({error})") from error
        return record

    def predictor(self, device: str = "cpu") -> Predictor:
        """The trained network, ready to answer, in evaluation mode.

        Raises:
            RunError: the weights are missing, damaged, or of another network.
        """
        network = self.config.build_network()
        load_weights(self.path, network)
        memory_format = self.config.execution.memory_format
        predictor = self.config.predictor(network).to(device)
        return predictor.to(memory_format=memory_format).eval()

    def answerer(
        self, device: str = "auto", watch: Callable[[Predictor], None] | None = None
    ) -> Answerer:
        """What maps raw images to answers, both NumPy arrays.

        Args:
            device: `auto`, `cpu`, or as PyTorch names it.
            watch: is given the predictor first, such as `Watch.over`.

        Raises:
            RunError: the weights are missing, damaged, or of another network.
            UsageError: the device does not exist here.
        """
        where = find_device(device)
        predictor = self.predictor(where)
        if watch is not None:
            watch(predictor)

        def answer(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                answers: Tensor = predictor(torch.from_numpy(images).to(where))
                return answers.cpu().numpy()

        return answer


def load_weights(
    path: Path, network: nn.Module, part: str = "", further: re.Pattern[str] | None = None
) -> None:
    """Put the weights of a run folder into a network.

    Args:
        path: the folder.
        network: the network; or a part of it, such as its backbone.
        part: what that part is called in the network.
        further: which weights of the network may be missing there, and stay as they are.

    Raises:
        RunError: they are missing, damaged, or of another network.
    """
    weights, prefix = path / WEIGHTS, f"{part}." if part else ""
    try:
        tensors = load_file(weights).items()
        found = network.load_state_dict(
            {key.removeprefix(prefix): value for key, value in tensors if key.startswith(prefix)},
            strict=further is None,
        )
        if further is not None:  # else it has looked itself
            odd = [key for key in found.missing_keys if not further.search(key)]
            if odd or found.unexpected_keys:
                raise RuntimeError(f"{odd} missing, {found.unexpected_keys} unexpected")
    except (OSError, SafetensorError) as error:
        raise RunError(f"{weights}: cannot be read ({error}); train again") from error
    except RuntimeError as error:
        raise RunError(
            f"{weights}: does not fit this network (another head, or other channels)"
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
    folder = _find(source)
    if not (folder / CONFIG).is_file():
        raise RunError(f"{source}: is not a run folder (it has no {CONFIG})")
    config = read_config(folder)
    if not is_finished(folder):
        raise RunError(f"{source}: training has not finished; repeat its 'train' command to go on")
    if task is not None and config.task != task:
        raise RunError(f"{source}: is a run for {config.task}, not for {task}")
    return Run(folder, config, source)


def _find(source: str) -> Path:
    """The folder that a path, a name, or an address leads to.

    Raises:
        RunError: nowhere.
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
    """Whether training in a run folder came to its end."""
    return (path / METRICS).is_file() and not (path / RESUME).exists()


def is_run_folder(path: Path) -> bool:
    """Whether a folder was made by `train`, finished or not, sound or not."""
    try:
        return read_yaml(path / CONFIG).get("format") == FORMAT
    except ConfigError:
        return False


def read_config(path: Path) -> RunConfig:
    """What a run folder's `config.yaml` says.

    Raises:
        RunError: it is damaged, or of another format.
    """
    try:
        content = read_yaml(path / CONFIG)
        if content.get("format") != FORMAT:
            raise RunError(f"{path}: is not a run folder ({CONFIG} is of something else)")
        return validate(RunConfig, content, str(path / CONFIG))
    except ConfigError as error:
        raise RunError(str(error)) from error


def write_config(path: Path, config: RunConfig) -> None:
    """Write `config.yaml`."""
    content = yaml.dump(
        config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True
    )
    write_text(path / CONFIG, content)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines, such as a preset, as it would stand in a file of its own."""


def _as_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if text.count("\n") > 1 else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _as_text)


def write_weights(path: Path, network: nn.Module) -> None:
    """Write a network's weights as safetensors, whole or not at all."""
    write_tensors(path, network.state_dict())


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    with atomic_write(path) as partial:
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in tensors.items()}, partial
        )
