"""Answers for a user's own files: one row a file, bad files included."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from pathlib import Path

import numpy as np

from halometry.data.files import count_images, iter_images
from halometry.data.images import Image
from halometry.errors import DataError, ReadError
from halometry.evaluation.posteriors import points_of, posterior_of
from halometry.inference.regions import Region, Regions, regions_of
from halometry.models.posterior import LEVELS, Posterior
from halometry.progress import track
from halometry.training.exported import Trained, open_trained
from halometry.training.run import Answerer
from halometry.writing import check_writable, write_text


@dataclass(frozen=True)
class Answer:
    """What a run says of one file.

    Attributes:
        file: its path; for an image of a store, with `#` and its number.
        values: probability of each class, or the mass fraction as `f_sub`, of a posterior the
            median; empty on an error.
        error: why there is no answer, or None.
        posterior: of the mass fraction, of this one image, where the run gives any.
        region: what holds the truth at a stated level, of a run that was calibrated.
    """

    file: str
    values: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    region: Region | None = None
    posterior: Posterior | None = field(default=None, compare=False, repr=False)

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The ends of the mass's 68 and 95 % intervals, of a posterior; nothing else."""
        if self.posterior is None:
            return {}
        ends = {name: self.posterior.interval(level)[0] for name, level in LEVELS.items()}
        return {name: (float(low), float(high)) for name, (low, high) in ends.items()}

    @property
    def best(self) -> str | None:
        """The most probable class, of a classification."""
        if len(self.values) < 2:
            return None
        return max(self.values, key=self.values.__getitem__)


def predict(
    run: str | Path | Trained,
    files: Sequence[str | Path] | str | Path,
    out: str | Path | None = None,
    batch_size: int = 64,
    device: str = "auto",
    level: float | None = None,
) -> list[Answer]:
    """Apply a trained run to images.

    Args:
        run: a run, as `load_run` takes it, or an .onnx file that `export` made of one; or several
            of these, with commas between them, whose mean is taken.
        files: images (.npy, pictures, FITS), stores, or folders of these.
        out: a CSV file to write the answers to, one row a file.
        batch_size: images at a time.
        device: `auto`, `cpu`, or as PyTorch names it.
        level: how often the truth is to be in the set or interval beside an answer; 0.9 if not
            given.

    Returns:
        One answer a file, in order; a file that cannot be used has its reason in `error`.

    Raises:
        DataError: there is no file to read at all.
        RunError: the run cannot be used, or has no sets or intervals of a level.
        UsageError: the level is not between 0 and 1.
    """
    run = open_trained(run)
    regions = regions_of(run, level)
    paths = [files] if isinstance(files, str | Path) else list(files)
    total = count_images(paths)
    if total == 0:
        raise DataError(f"{', '.join(map(str, paths)) or 'no path given'}: no images found")
    if out is not None:
        check_writable(Path(out))
    answerer = run.answerer(device)
    answers: list[Answer] = []
    with track(f"predicting with {run.name}", total) as progress:
        images = iter_images(paths)
        while batch := list(islice(images, batch_size)):
            answers += _answer(run, answerer, regions, batch)
            progress.advance(len(batch))
    if out is not None:
        write_answers(Path(out), run, answers, regions)
    return answers


def _answer(
    run: Trained, answerer: Answerer, regions: Regions | None, batch: list[Image | ReadError]
) -> Iterator[Answer]:
    """Answers for one batch of files, in their order; images of one shape go together."""
    answers: dict[int, Answer] = {}
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, item in enumerate(batch):
        if isinstance(item, ReadError):
            answers[i] = Answer(item.path, error=item.reason)
        elif (reason := run.config.misfit(item.pixels.shape)) is not None:
            answers[i] = Answer(str(item.path), error=reason)
        else:
            by_shape.setdefault(item.pixels.shape, []).append(i)
    for members in by_shape.values():
        group = [batch[i] for i in members]
        pixels = np.stack([item.pixels for item in group if isinstance(item, Image)])
        outputs = answerer(pixels)
        posterior = posterior_of(run, outputs)
        beside = regions.of(points_of(run, outputs)) if regions else repeat(None, len(outputs))
        for k, (i, region) in enumerate(zip(members, beside, strict=True)):
            one = None if posterior is None else posterior[k : k + 1]
            values = _values(run, outputs[k] if one is None else one.median)
            answers[i] = Answer(str(batch[i].path), values, None, region, one)
    return (answers[i] for i in range(len(batch)))


def _values(run: Trained, output: np.ndarray) -> dict[str, float]:
    names: Iterable[str] = run.config.class_names or ("f_sub",)
    return dict(zip(names, np.atleast_1d(output).astype(float).tolist(), strict=True))


def write_answers(
    path: Path, run: Trained, answers: list[Answer], regions: Regions | None = None
) -> None:
    """Write answers as CSV: file, the class if there are any, values, intervals, regions, error.

    Raises:
        StorageError: no room or no permission.
    """
    names = run.config.class_names
    levels = LEVELS if run.config.grid is not None else {}
    ends = [f"{end}_{level}" for level in levels for end in ("low", "high")]
    columns = regions.columns if regions else []
    header = ["file", *(["class", *names] if names else ["f_sub"]), *ends, *columns, "error"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for answer in answers:
        values = [f"{answer.values[n]:.6g}" if answer.values else "" for n in names or ("f_sub",)]
        best = [answer.best or ""] if names else []
        found = answer.intervals
        interval = [f"{end:.6g}" for level in levels for end in found.get(level, ())]
        interval = interval or [""] * len(ends)
        cells = answer.region.cells if answer.region else [""] * len(columns)
        writer.writerow([answer.file, *best, *values, *interval, *cells, answer.error or ""])
    write_text(path, text.getvalue())
