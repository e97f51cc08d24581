"""What a comparison says, in plain sentences made from its numbers."""

from __future__ import annotations

from typing import Any

from halometry.evaluation.intervals import Estimate

CHANCE = {"auc": 0.55, "r2": 0.02}  # at or below: the network has not learnt
TITLES = {"auc": "AUC", "r2": "R²"}


def key_metric(record: dict[str, Any]) -> str:
    """The metric that networks are ranked by: `auc` or `r2`."""
    return "auc" if record["task"] == "classification" else "r2"


def on_front(models: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
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
        record: a comparison, as `results.json` holds it.
    """
    key = key_metric(record)
    title, count = TITLES[key], record["data"]["test"]
    failed = [m for m in record["models"] if quality(m, key) <= CHANCE[key]]
    learnt = [m for m in record["models"] if quality(m, key) > CHANCE[key]]
    sentences = [
        f"{m['name']} has not learnt the task ({title} {_shown(m, key)}): this is not a result."
        for m in failed
    ]
    if not learnt:
        return sentences
    ranked = sorted(learnt, key=lambda m: -quality(m, key))
    best = ranked[0]
    sentences.insert(0, f"{best['name']} is the most accurate: {title} {_shown(best, key)}.")
    if len(ranked) > 1:
        sentences.insert(1, _runner_up(best, ranked[1], key, count))
    return sentences + _choices(learnt, key)


def _shown(model: dict[str, Any], key: str) -> str:
    return str(Estimate(**model["metrics"][key]))


def _runner_up(best: dict[str, Any], second: dict[str, Any], key: str, count: int) -> str:
    apart = second["metrics"][key]["high"] < best["metrics"][key]["low"]
    shown = _shown(second, key)
    if apart:
        return f"{second['name']} follows at {shown}; the intervals do not overlap."
    return (
        f"{second['name']} follows at {shown}; the intervals overlap, so that {count:,} images"
        " do not tell the two apart with certainty."
    )


def _choices(models: list[dict[str, Any]], key: str) -> list[str]:
    """Which model to choose at which latency; those that another beats in both are named."""
    front = on_front(models, key)
    if len(models) == 1:
        return []
    parts = []
    for model in front:
        parts.append(
            f"{model['name']} ({latency(model):.1f} ms, {TITLES[key]} {quality(model, key):.3f})"
        )
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
