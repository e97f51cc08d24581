"""Ranking of networks by accuracy, and their Pareto front in accuracy and latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from halometry.compare.schema import ComparisonRecord, ModelRecord
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.differences import Difference, find_difference
from halometry.evaluation.metrics import METRIC_TITLES, key_metric

CHANCE = {"auc": 0.5, "r2": 0.0}  # metric of predictions without any skill


@dataclass(frozen=True)
class RankedModel:
    """Position of a network in the ranking.

    Attributes:
        model: the network.
        rank: 1 for the best; None if it is not better than chance.
        on_pareto_front: whether no other network is both faster and more accurate.
    """

    model: ModelRecord
    rank: int | None
    on_pareto_front: bool


def rank_models(models: Sequence[ModelRecord], key: str) -> list[RankedModel]:
    """Networks in the order of the key metric, best first; those at chance level come last."""
    front = pareto_front(models, key)
    ranked = above_chance(models, key)
    others = [model for model in models if model not in ranked]
    return [RankedModel(model, k + 1, model in front) for k, model in enumerate(ranked)] + [
        RankedModel(model, None, model in front) for model in others
    ]


def above_chance(models: Sequence[ModelRecord], key: str) -> list[ModelRecord]:
    """Networks whose interval of the key metric lies above chance, the most accurate first."""
    better = [model for model in models if model.metrics[key].low > CHANCE[key]]
    return sorted(better, key=lambda model: -model.metrics[key].value)


def best_model(models: Sequence[ModelRecord], key: str) -> ModelRecord:
    """Network with the highest value of the key metric."""
    return max(models, key=lambda model: model.metrics[key].value)


def pareto_front(models: Sequence[ModelRecord], key: str) -> list[ModelRecord]:
    """Networks that no other network beats in both accuracy and latency, fastest first.

    Networks at chance level are left out, unless all are.
    """
    candidates = above_chance(models, key) or models
    front: list[ModelRecord] = []
    for model in sorted(candidates, key=lambda m: (m.latency, -m.metrics[key].value)):
        if not front or model.metrics[key].value > front[-1].metrics[key].value:
            front.append(model)
    return front


def best_minus_second(
    models: Sequence[ModelRecord], differences: Sequence[Difference], key: str
) -> Interval | None:
    """Difference of the two best networks in the key metric, on the same images.

    None if fewer than two networks are better than chance.
    """
    ranked = above_chance(models, key)
    if len(ranked) < 2:
        return None
    return find_difference(differences, key, ranked[0].name, ranked[1].name)


def conclusion(record: ComparisonRecord) -> list[str]:
    """Sentences on the best network, its difference to the second, and networks at chance."""
    key = key_metric(record.task)
    ranked = above_chance(record.models, key)
    if not ranked:
        return ["No network is better than chance."]
    best, difference = ranked[0], record.best_minus_second
    sentences = [f"{best.name} is the most accurate: {METRIC_TITLES[key]} {best.metrics[key]}."]
    if difference is not None:
        sentences.append(
            f"Its difference to {ranked[1].name} on the same images is {difference}."
            + (
                " It is significant, since its interval excludes zero."
                if difference.low > 0
                else " It is not significant, since its interval includes zero."
            )
        )
    if at_chance := [model.name for model in record.models if model not in ranked]:
        sentences.append(
            f"Not better than chance: {', '.join(at_chance)}. The interval of the"
            f" {METRIC_TITLES[key]} does not lie above {CHANCE[key]:g}."
        )
    return sentences
