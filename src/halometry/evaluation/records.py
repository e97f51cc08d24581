"""Typed contents of `metrics.json`; a comparison's `results.json` has the same parts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from halometry.config import StrictModel, Task
from halometry.errors import FormatError
from halometry.evaluation.bootstrap import Interval
from halometry.io import header, read_json, write_json


class Record(StrictModel):
    """Immutable part of a JSON file, without room for unknown keys; numbers may be infinite."""

    model_config = ConfigDict(allow_inf_nan=True)


AnyRecord = TypeVar("AnyRecord", bound=Record)


def write_record(path: Path, name: str, record: Record) -> None:
    """Write a record as a JSON file with the header of its format.

    Args:
        path: the file.
        name: format, one of `halometry.io.FORMATS`.
        record: the content.

    Raises:
        StorageError: no room or no permission.
    """
    write_json(path, name, record.model_dump(mode="json"))


def read_record(path: Path, name: str, model: type[AnyRecord]) -> AnyRecord:
    """Read a record that `write_record` wrote.

    Raises:
        FormatError: it cannot be read, is of another format or version, or is not valid.
    """
    content = read_json(path, name)
    for key in header(name):
        del content[key]
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise FormatError(f"{path}: is not a valid {name} file ({error})") from error


class ReliabilityBins(Record):
    """Confidence and accuracy in B bins of equally many images, see `Reliability`."""

    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class CalibrationErrors(Record):
    """Calibration of one set of class probabilities.

    Attributes:
        ece: expected calibration error.
        ece_debiased: the same, corrected for the bias that a finite number of images causes.
        ece_bias: expected calibration error of perfectly calibrated probabilities.
        mean_confidence: mean probability of the predicted class.
        accuracy: fraction of correct predictions.
        reliability: the bins of the reliability diagram.
    """

    ece: Interval
    ece_debiased: float
    ece_bias: float
    mean_confidence: float
    accuracy: float
    reliability: ReliabilityBins


class CalibrationRecord(Record):
    """Calibration of class probabilities before and after temperature scaling.

    Attributes:
        bins, interval: how bins and intervals are defined, in words.
        after, before: with and without temperature and biases.
        temperature, bias: of the run; the bias has one number per class.
    """

    bins: str
    interval: str
    after: CalibrationErrors
    before: CalibrationErrors
    temperature: float
    bias: tuple[float, ...] = ()


class CoverageLevel(Record):
    """Coverage of conformal prediction sets or intervals at one nominal coverage.

    Attributes:
        nominal: coverage that was asked for.
        coverage: fraction of images whose true value is in the set or interval.
        mean_size: mean number of classes, or mean width.
        classes: coverage for each true class; None of masses.
        fraction_by_size: fraction of images with 0, 1, ... classes in the set; None of masses.
    """

    nominal: float
    coverage: Interval
    mean_size: Interval
    classes: dict[str, Interval] | None = None
    fraction_by_size: tuple[float, ...] | None = None


class CoverageRecord(Record):
    """Coverage of conformal prediction sets or intervals.

    Attributes:
        images: the calibration images, in words.
        held_out: whether the calibration images were used for nothing else.
        interval: how intervals are defined, in words.
        levels: one for each nominal coverage.
    """

    images: str
    held_out: bool
    interval: str
    levels: tuple[CoverageLevel, ...]


class PosteriorCoverage(Record):
    """Coverage of the central posterior intervals for a part of the images.

    Attributes:
        by: what the images are sorted by: the true mass or the median; `all` if not sorted.
        third: the part.
        count: number of its images.
        coverage_68, coverage_95: fraction of them whose true mass is in the interval.
    """

    by: Literal["all", "truth", "median"]
    third: Literal["all", "lightest", "middle", "heaviest"]
    count: int
    coverage_68: Interval
    coverage_95: Interval


class ExpectedCoverage(Record):
    """Expected coverage of the highest-density regions.

    Attributes:
        level: credibility of the region.
        fraction: fraction of images whose true mass is in it.
    """

    level: tuple[float, ...]
    fraction: tuple[float, ...]


class PosteriorRecord(Record):
    """Checks of posteriors, see `posterior_record`.

    Attributes:
        count: number of images.
        pit: histogram of the probability integral transform.
        expected_coverage: of highest-density regions.
        coverage: of central intervals, for all images and by thirds.
    """

    count: int
    pit: tuple[int, ...]
    expected_coverage: ExpectedCoverage
    coverage: tuple[PosteriorCoverage, ...]


class EvaluationRecord(Record):
    """Contents of `metrics.json` of an evaluation.

    Attributes:
        run, backbone, task: what was evaluated.
        data: path of the data set.
        images: which of its images were used, in words.
        count: their number.
        interval: how intervals are defined, in words.
        metrics: metrics with 95 % intervals.
        calibration: calibration of class probabilities; None for regression.
        coverage: coverage of conformal sets or intervals, of a calibrated run.
        class_names: K names; None for regression.
        confusion: number of images by true class (rows) and predicted class (columns).
        posterior: checks of posteriors, of a run that gives them.
        versions: versions of the packages that trained the run.
        date: of the evaluation.
    """

    run: str
    backbone: str
    task: Task
    data: str
    images: str
    count: int
    interval: str
    metrics: dict[str, Interval]
    calibration: CalibrationRecord | None = None
    coverage: CoverageRecord | None = None
    class_names: tuple[str, ...] | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None
    posterior: PosteriorRecord | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    date: str


def read_evaluation_record(path: Path) -> EvaluationRecord:
    """Read `metrics.json` of an evaluation.

    Raises:
        FormatError: it cannot be read, is of another format or version, or is not valid.
    """
    return read_record(path, "evaluation", EvaluationRecord)
