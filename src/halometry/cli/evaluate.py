"""Subcommands that apply a run: predict, evaluate, export, publish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from halometry.cli.app import (
    DataOption,
    DeviceOption,
    FilesArgument,
    FolderArgument,
    MappersOption,
    RunArgument,
    parse_workers,
    subcommand,
)
from halometry.cli.output import new_table, out_console, print_line

if TYPE_CHECKING:
    from halometry.evaluation.evaluate import Evaluation
    from halometry.evaluation.predictions import Prediction

PANEL = "Apply"
MAX_PRINTED_PREDICTIONS = 10
MAX_PRINTED_ERRORS = 3


@subcommand(PANEL, "halometry predict common_test_1/d4net my_images/ --out predictions.csv")
def predict(
    run: RunArgument,
    files: FilesArgument,
    out: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("predictions.csv"),
    device: DeviceOption = "auto",
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Fraction of images whose set or interval contains the true value.",
            show_default="0.9",
        ),
    ] = None,
    workers: MappersOption = "auto",
) -> None:
    """Apply a run to images; write one row for each image."""
    from halometry.evaluation.predict import predict as predict_images

    predictions = predict_images(
        run, files, out=out, device=device, coverage=coverage, workers=parse_workers(workers)
    )
    _print_predictions(predictions)
    errors = [prediction for prediction in predictions if prediction.error]
    for prediction in errors[:MAX_PRINTED_ERRORS]:
        print_line(f"not read: {prediction.image}: {prediction.error}")
    if len(errors) > MAX_PRINTED_ERRORS:
        more = len(errors) - MAX_PRINTED_ERRORS
        print_line(f"... and {more} more; see the column 'error'")
    print_line(f"{len(predictions) - len(errors)} of {len(predictions)} predicted -> {out}")
    if n_ood := sum(_is_ood(prediction) for prediction in predictions):
        print_line(f"{n_ood} of them out of distribution; see the column 'ood_reason'")
    if len(errors) == len(predictions):
        raise typer.Exit(1)


@subcommand(PANEL, "halometry evaluate runs/resnet18 --data lenses.h5 --out evaluation")
def evaluate(
    run: RunArgument,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Folder for metrics, predictions and figures.")],
    device: DeviceOption = "auto",
    workers: MappersOption = "auto",
) -> None:
    """Measure how good a run is on images that it was not trained on."""
    from halometry.evaluation.evaluate import evaluate as evaluate_run

    evaluation = evaluate_run(run, data, out=out, device=device, workers=parse_workers(workers))
    _print_evaluation(evaluation)


@subcommand(PANEL, "halometry export runs/resnet18 --out resnet18.onnx")
def export(
    run: FolderArgument,
    out: Annotated[Path, typer.Option(help="File to write, ending in .onnx.")],
    format: Annotated[str, typer.Option(help="Format of the file: onnx.")] = "onnx",
    check: Annotated[
        Path | None, typer.Option(help="Images on which to compare it with PyTorch.")
    ] = None,
) -> None:
    """Write a run, with its preprocessing, as one file for ONNX Runtime."""
    from halometry.publish.export import export as export_run

    exported = export_run(run, out, format=format, check=check)
    megabytes = exported.bytes / 1e6
    print_line(f"{exported.path}: {megabytes:.1f} MB, checked on {exported.checked_on}")
    print_line(f"largest difference from the predictions of PyTorch: {exported.difference:.1g}")


@subcommand(PANEL, "halometry publish runs/resnet18 --data test.h5 --out weights --license mit")
def publish(
    run: FolderArgument,
    data: DataOption,
    out: Annotated[str, typer.Option(help="New folder, or hf://USER/REPO.")],
    license: Annotated[
        str | None, typer.Option(help="License of the weights, by its name on the Hub: mit, ...")
    ] = None,
    device: DeviceOption = "auto",
    workers: MappersOption = "auto",
) -> None:
    """Evaluate a run and write a compact copy with a model card, for others to use."""
    from halometry.publish.publish import publish_run

    published = publish_run(
        run, data, out, license=license, device=device, workers=parse_workers(workers)
    )
    _print_evaluation(published.evaluation)
    if published.change is not None:
        is_classifier = published.evaluation.run.config.class_names
        unit = "probability" if is_classifier else "standard deviation"
        print_line(
            f"half precision changed no prediction by more than {published.change:.2g} ({unit})"
        )
    print_line(f"weights and card -> {published.location}")


def _is_ood(prediction: Prediction) -> bool:
    return bool(prediction.ood and prediction.ood.reason)


def _print_predictions(predictions: Sequence[Prediction]) -> None:
    """Print the first predictions: class and probability, or mass fraction and intervals."""
    valid = [prediction for prediction in predictions if prediction.error is None]
    if not valid:
        return
    intervals = [f"{level} % interval" for level in valid[0].intervals]
    columns = ["class", "probability"] if valid[0].predicted_class else ["f_sub", *intervals]
    with_ood = any(map(_is_ood, valid))
    table = new_table("image", *columns, *(["out of distribution"] if with_ood else []))
    paths = [Path(prediction.image) for prediction in valid]
    n_parts = 1 if len({path.name for path in paths}) == len(paths) else 2  # no/1.npy, vort/1.npy
    for prediction, path in list(zip(valid, paths, strict=True))[:MAX_PRINTED_PREDICTIONS]:
        if name := prediction.predicted_class:
            cells = [escape(name), f"{prediction.probabilities[name]:.4f}"]
        else:
            ends = [f"{low:.4f} to {high:.4f}" for low, high in prediction.intervals.values()]
            cells = [f"{prediction.f_sub:.4f}", *ends]
        if with_ood:
            cells.append((prediction.ood and prediction.ood.reason) or "")
        table.add_row(escape("/".join(path.parts[-n_parts:])), *cells)
    out_console.print(table)
    if len(valid) > MAX_PRINTED_PREDICTIONS:
        print_line(f"... and {len(valid) - MAX_PRINTED_PREDICTIONS} more")


def _print_evaluation(evaluation: Evaluation) -> None:
    """Print metrics with their intervals, coverage and calibration."""
    from halometry.evaluation.calibration_error import format_calibration
    from halometry.evaluation.metrics import positive_class
    from halometry.evaluation.precision_recall import shown_metrics

    names = evaluation.run.config.class_names or ()
    positive = f"; positive class: {names[positive_class(names)]}" if len(names) == 2 else ""
    print_line(f"{evaluation.run.name}: {evaluation.description}{positive}")
    table = new_table("metric", "value", "95 % interval")
    for name in shown_metrics(evaluation.metrics, evaluation.confusion):
        value, _, interval = str(evaluation.metrics[name]).partition(" ")
        table.add_row(name, value, escape(interval))
    out_console.print(table)
    _print_coverage(evaluation)
    for line in format_calibration(evaluation.calibration, evaluation.coverage):
        print_line(line)


def _print_coverage(evaluation: Evaluation) -> None:
    """Print the coverage of posterior intervals, in each third of the images."""
    if evaluation.posterior_checks is None:
        return
    table = new_table("coverage of the", "images", "68 % interval", "95 % interval")
    for row in evaluation.posterior_checks.coverage:
        images = "all" if row.by == "all" else f"{row.third} third by {row.by}"
        coverages = [escape(str(interval)) for interval in (row.coverage_68, row.coverage_95)]
        table.add_row(images, f"{row.count:,}", *coverages)
    out_console.print(table)
