"""Answers for a user's own files: one row a file, bad files included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np

from halometry.calibration.prediction_sets import Regions
from halometry.datasets.inputs import Given, given_images
from halometry.datasets.readers import Image
from halometry.errors import ReadError
from halometry.evaluation.predictions import Answer, write_answers
from halometry.io import check_writable
from halometry.log import track
from halometry.parallel import Workers, check_workers
from halometry.runs.ood import Watch, watched
from halometry.runs.open import AnyRun, open_run
from halometry.runs.predict_rows import posterior_of
from halometry.runs.prediction_sets import regions_of
from halometry.runs.run import Answerer


def predict(
    run: str | Path | AnyRun,
    files: Given,
    out: str | Path | None = None,
    batch_size: int = 64,
    device: str = "auto",
    level: float | None = None,
    workers: Workers = 1,
) -> list[Answer]:
    """Apply a trained run to images.

    Args:
        run: a run, as `load_run` takes it, or an .onnx file that `export` made of one; or several
            of these, with commas between them, whose mean is taken.
        files: images (.npy, pictures, FITS), stores, or folders of these; or an array of one
            image, (H, W) or (C, H, W), or of several, (B, H, W) or (B, C, H, W).
        out: a CSV file to write the answers to, one row a file.
        batch_size: images at a time.
        device: `auto`, `cpu`, or as PyTorch names it.
        level: how often the truth is to be in the set or interval beside an answer; 0.9 if not
            given.
        workers: processes that map images, where the run takes maps; `auto` takes one a core.

    Returns:
        One answer a file, in order; a file that cannot be used has its reason in `error`.

    Raises:
        DataError: there is no image at all.
        RunError: the run cannot be used, or has no sets or intervals of a level.
        UsageError: the level is not between 0 and 1; no such number of processes.
    """
    run = open_run(run)
    check_workers(workers)
    regions = regions_of(run, level)
    mapped = run.config.data.mass_map_preset is not None
    images, total = given_images(files, 1 if mapped else run.config.data.shape[0])
    if out is not None:
        check_writable(Path(out))
    answerer, watch = watched(run, device)
    answers: list[Answer] = []
    with ExitStack() as stack, track(f"predicting with {run.name}", total) as progress:
        if mapped:
            from halometry.runs.mapped_inputs import mapped_for

            images = stack.enter_context(mapped_for(run, images, total, workers))
        while batch := list(islice(images, batch_size)):
            answers += _answer(run, answerer, watch, regions, batch)
            progress.advance(len(batch))
    if out is not None:
        write_answers(Path(out), run, answers, regions)
    return answers


def _answer(
    run: AnyRun,
    answerer: Answerer,
    watch: Watch | None,
    regions: Regions | None,
    batch: list[Image | ReadError],
) -> Iterator[Answer]:
    """Answers for one batch of files, in their order; images of one shape go together."""
    answers: dict[int, Answer] = {}
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, item in enumerate(batch):
        if isinstance(item, ReadError):
            answers[i] = Answer(item.path, error=item.reason)
        elif (
            reason := run.config.incompatibility(item.pixels.shape, item.mass_map_preset)
        ) is not None:
            answers[i] = Answer(str(item.path), error=reason)
        else:
            by_shape.setdefault(item.pixels.shape, []).append(i)
    for members in by_shape.values():
        group = [batch[i] for i in members]
        pixels = np.stack([item.pixels for item in group if isinstance(item, Image)])
        outputs = answerer(pixels)
        novelty = watch.judge() if watch else [None] * len(members)
        posterior = posterior_of(run, outputs)
        judged = outputs if posterior is None else posterior
        within = regions.of(judged) if regions else [None] * len(members)
        for k, i in enumerate(members):
            one = None if posterior is None else posterior[k : k + 1]
            values = _values(run, outputs[k] if one is None else one.median)
            file = str(batch[i].path)
            answers[i] = Answer(file, values, None, within[k], one, novelty[k])
    return (answers[i] for i in range(len(batch)))


def _values(run: AnyRun, output: np.ndarray) -> dict[str, float]:
    names: Iterable[str] = run.config.class_names or ("f_sub",)
    return dict(zip(names, np.atleast_1d(output).astype(float).tolist(), strict=True))
