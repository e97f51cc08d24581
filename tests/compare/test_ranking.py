"""What a comparison concludes from its numbers."""

from __future__ import annotations

from typing import Any

from halometry.compare.ranking import conclusion, pareto_front


def model(name: str, value: float, ms: float, half: float = 0.01, key: str = "auc") -> Any:
    return {
        "name": name,
        "metrics": {key: {"value": value, "low": value - half, "high": value + half}},
        "cost": {"latency_ms": {"median": ms, "low": ms, "high": ms}},
    }


def record(*models: Any, task: str = "classification", lead: float = 0.04) -> Any:
    apart = {"value": lead, "low": lead - 0.01, "high": lead + 0.01}
    return {"task": task, "data": {"test": 400}, "models": list(models), "lead": apart}


def test_the_best_is_named_with_its_interval() -> None:
    said = conclusion(record(model("small", 0.93, 3.0), model("large", 0.97, 30.0)))
    assert said[0] == "large is the most accurate: AUC 0.970 [0.960, 0.980]."
    assert said[1] == (
        "small follows at 0.930 [0.920, 0.940]; on the same images the difference is"
        " 0.040 [0.030, 0.050], more than the choice of images explains."
    )
    assert said[2] == (
        "For the shortest time an image choose small (3.0 ms, AUC 0.930); "
        "for more accuracy large (30.0 ms, AUC 0.970)."
    )


def test_a_difference_that_may_be_none_is_not_a_victory() -> None:
    models = model("a", 0.95, 3.0), model("b", 0.951, 5.0), model("c", 0.8, 1.0)
    said = conclusion(record(*models, lead=0.001))
    assert said[1].endswith(
        "is 0.001 [-0.009, 0.011], so that 400 images do not tell which of the two is better;"
        " a is the faster."
    )
    assert said[2] == (
        "For the shortest time an image choose c (1.0 ms, AUC 0.800); "
        "for more accuracy a (3.0 ms, AUC 0.950)."
    )
    assert len(said) == 3


def test_a_slower_and_less_accurate_network_is_not_recommended() -> None:
    said = conclusion(record(model("good", 0.97, 3.0), model("bad", 0.90, 30.0)))
    assert "It is also the fastest: choose good (3.0 ms, AUC 0.970)." in said
    assert said[-1] == "bad (30.0 ms) is slower than good and not more accurate."


def test_a_network_at_chance_is_no_result() -> None:
    said = conclusion(record(model("good", 0.97, 3.0), model("idle", 0.51, 1.0)))
    assert any("idle has not learnt the task" in s and "not a result" in s for s in said)
    assert not any("choose idle" in s for s in said)


def test_all_at_chance() -> None:
    said = conclusion(record(model("idle", 0.0, 1.0, key="r2"), task="regression"))
    assert said == [
        "idle has not learnt the task (R² 0.000 [-0.010, 0.010]): this is not a result."
    ]


def test_masses_are_ranked_by_r2() -> None:
    said = conclusion(
        record(model("a", 0.4, 1.0, key="r2"), model("b", 0.6, 2.0, key="r2"), task="regression")
    )
    assert said[0].startswith("b is the most accurate: R² 0.600")


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    models = [model("slow", 0.99, 9.0), model("dull", 0.90, 5.0), model("fast", 0.95, 1.0)]
    assert [m["name"] for m in pareto_front(models, "auc")] == ["fast", "slow"]
