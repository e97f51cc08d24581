"""What a comparison says, in plain sentences made from its numbers."""

from __future__ import annotations

from typing import Any

from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.metrics import METRIC_TITLES, key_metric

CHANCE_LIMITS = {"auc": 0.55, "r2": 0.02}  # at or below: the network has not learnt


def above_chance(models: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The models that are better than chance, the most accurate first."""
    above = [m for m in models if quality(m, key) > CHANCE_LIMITS[key]]
    return sorted(above, key=lambda m: -quality(m, key))


def best_model(record: dict[str, Any]) -> dict[str, Any]:
    """The model with the highest value of the key metric."""
    return max(record["models"], key=lambda model: quality(model, key_metric(record)))


def pareto_front(models: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The models that no other beats in both accuracy and latency, fastest first."""
    ranked = sorted(models, key=lambda m: (latency(m), -quality(m, key)))
    front: list[dict[str, Any]] = []
    for model in ranked:
        if not front or quality(model, key) > quality(front[-1], key):
            front.append(model)
    return front


def quality(model: dict[str, Any], key: str) -> float:
    """A model's value of the key metric."""
    return float(model["metrics"][key]["value"])


def latency(model: dict[str, Any]) -> float:
    """A model's median latency of one image, ms."""
    return float(model["cost"]["latency_ms"]["median"])


def conclusion(record: dict[str, Any]) -> list[str]:
    """Sentences on which model is best, which to choose, and which have not learnt.

    Args:
        record: a comparison, as `results.json` holds it; `lead` is how much better the best
            model is than the next, on the same images.
    """
    key = key_metric(record)
    title, count = METRIC_TITLES[key], record["data"]["test"]
    ranked = above_chance(record["models"], key)
    sentences = [
        f"{m['name']} has not learnt the task ({title} {_shown(m, key)}): this is not a result."
        for m in record["models"]
        if m not in ranked
    ]
    if not ranked:
        return sentences
    best, names = ranked[0], [model["name"] for model in ranked]
    sentences.insert(0, f"{best['name']} is the most accurate: {title} {_shown(best, key)}.")
    if len(ranked) > 1:
        lead = Interval(**record["lead"])
        faster, slower = sorted(ranked[:2], key=latency)
        said = (
            f"{ranked[1]['name']} follows at {_shown(ranked[1], key)}; on the same images the"
            f" difference is {lead}, "
        )
        if lead.low > 0:
            said += "more than the choice of images explains."
        else:
            said += f"so that {count:,} images do not tell which of the two is better;"
            said += f" {faster['name']} is the faster."
            ranked.remove(slower)
        sentences.insert(1, said)
    sentences += _not_told_apart(record, key, names)
    return sentences + _choices(ranked, key)


def _not_told_apart(record: dict[str, Any], key: str, ranked: list[str]) -> list[str]:
    """Which networks the images do not tell apart, but the first two, already spoken of."""
    pairs = [
        f"{one['first']} and {one['second']}"
        for one in record.get("differences", ())
        if one["metric"] == key
        and one["better"] is None
        and {one["first"], one["second"]} <= set(ranked)
        and {one["first"], one["second"]} != set(ranked[:2])
    ]
    if not pairs:
        return []
    return [
        f"Too close in {METRIC_TITLES[key]} for these images to tell apart: {'; '.join(pairs)}."
    ]


def _shown(model: dict[str, Any], key: str) -> str:
    return str(Interval(**model["metrics"][key]))


def _choices(models: list[dict[str, Any]], key: str) -> list[str]:
    """Which model to choose at which latency; those that another beats in both are named."""
    front = pareto_front(models, key)
    models = sorted(models, key=latency)
    if len(models) == 1:
        return []
    parts = []
    for model in front:
        value = _shown(model, key).partition(" ")[0]
        parts.append(f"{model['name']} ({latency(model):.1f} ms, {METRIC_TITLES[key]} {value})")
    if len(front) == 1:
        sentences = [f"It is also the fastest: choose {parts[0]}."]
    else:
        rising = "; for more accuracy ".join(parts)
        sentences = [f"For the shortest time an image choose {rising}."]
    for model in models:
        if model not in front:
            better = next(m for m in front if quality(m, key) >= quality(model, key))
            sentences.append(
                f"{model['name']} ({latency(model):.1f} ms) is slower than {better['name']}"
                " and not more accurate."
            )
    return sentences
