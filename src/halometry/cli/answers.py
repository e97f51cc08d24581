"""Answers, and the coverage of posteriors, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from halometry.cli.app import listing, out_console, tell

if TYPE_CHECKING:
    from halometry.evaluation.evaluate import Evaluation
    from halometry.evaluation.predictions import Prediction

SHOWN = 10  # answers


def print_answers(answers: Sequence[Prediction]) -> None:
    """The first few answers: class and probability, or mass and intervals; and what is unusual."""
    found = [answer for answer in answers if answer.error is None]
    if not found:
        return
    intervals = [f"{level} % interval" for level in found[0].intervals]
    columns = ["class", "probability"] if found[0].predicted_class else ["f_sub", *intervals]
    strange = any(answer.ood and answer.ood.unusual for answer in found)
    table = listing("file", *columns, *(["unusual"] if strange else []))
    paths = [Path(answer.image) for answer in found]
    parts = 1 if len({path.name for path in paths}) == len(paths) else 2  # no/1.npy, vort/1.npy
    for answer, path in list(zip(found, paths, strict=True))[:SHOWN]:
        if answer.predicted_class:
            cells = [
                escape(answer.predicted_class),
                f"{answer.probabilities[answer.predicted_class]:.4f}",
            ]
        else:
            ends = [f"{low:.4f} to {high:.4f}" for low, high in answer.intervals.values()]
            cells = [f"{answer.f_sub or 0:.4f}", *ends]
        if strange:
            cells.append((answer.ood and answer.ood.unusual) or "")
        table.add_row(escape("/".join(path.parts[-parts:])), *cells)
    out_console.print(table)
    if len(found) > SHOWN:
        tell(f"... and {len(found) - SHOWN} more")


def print_coverage(evaluation: Evaluation) -> None:
    """How often the intervals hold the truth, in each third of the images."""
    from halometry.evaluation.bootstrap import Interval
    from halometry.evaluation.posterior_checks import coverage_rows

    if evaluation.posterior is None:
        return
    rows = coverage_rows(evaluation.truth, evaluation.posterior)
    table = listing("share held by the", "images", "68 % interval", "95 % interval")
    for row in rows:
        of = "all" if row["by"] == "all" else f"{row['third']} third by {row['by']}"
        shares = [escape(str(Interval(**row[level]))) for level in ("68", "95")]
        table.add_row(of, f"{row['count']:,}", *shares)
    out_console.print(table)
