"""The weights that come with the package, at work on images made a moment ago."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halometry.compare.compare import gallery_of
from halometry.compare.ranking import key_metric
from halometry.compare.report import Gallery
from halometry.datasets.generate import simulate
from halometry.datasets.open import open_dataset
from halometry.evaluation.evaluate import Evaluation, evaluate
from halometry.evaluation.metrics import TITLES
from halometry.log import say
from halometry.massmaps.dataset import map_set
from halometry.resources import weights, weights_folder
from halometry.runs.run import Run, load_run

COUNT = 200  # images
LATER = 1_000_000  # added to the seed: far from those that weights are trained and judged with


def at_work(
    preset: str, out: Path, seed: int = 1, device: str = "auto"
) -> tuple[dict[str, Any], Gallery] | None:
    """Judge the package's weights of a preset on new images of it.

    Args:
        preset: its name.
        out: a folder for the images and each network's evaluation; images there are kept.
        seed: another gives other images.
        device: `auto`, `cpu`, or as PyTorch names it.

    Returns:
        A record and pictures for the report; None where no weights of this preset came with
        the package.
    """
    names = [name for name in weights() if name.startswith(f"{preset}/")]
    if not names:
        return None
    seed += LATER
    store = out / f"{preset}_{seed}.h5"
    if not store.exists():
        say(f"{COUNT} new images of {preset} for the weights that come with halometry")
        simulate(preset, COUNT, seed=seed, out=store, device=device)
    data, mapped = open_dataset(store), store.with_stem(f"{store.stem}_mapped")
    evaluations = {}
    for name in names:
        run, images = load_run(weights_folder(name)), data
        if run.config.data.mapped is not None:
            if not mapped.exists():
                map_set(data, mapped, blind=True)
            images = open_dataset(mapped)
        evaluations[name.rpartition("/")[2]] = evaluate(run, images, out / name, device)
    first = next(iter(evaluations.values()))
    task = first.run.config.task
    record: dict[str, Any] = {
        "task": task,
        "key": TITLES[key_metric({"task": task})],
        "data": {
            "preset": preset,
            "seed": seed,
            "test": len(first.truth),
            "class_names": data.class_names,
        },
        "models": [_model(name, evaluation) for name, evaluation in evaluations.items()],
    }
    return record, gallery_of(data, evaluations, seed)


def _model(name: str, evaluation: Evaluation) -> dict[str, Any]:
    assert isinstance(evaluation.run, Run)
    config, published = evaluation.run.config, evaluation.run.record()
    confusion = evaluation.confusion
    key = key_metric({"task": config.task})
    return {
        "name": name,
        "start": config.start,
        "parameters": f"{published['parameters'] / 1e6:.2f} M",
        "card": published["test"]["metrics"][key],
        "metrics": {key: value.to_dict() for key, value in evaluation.metrics.items()},
        "confusion": confusion.tolist() if confusion is not None else None,
    }
