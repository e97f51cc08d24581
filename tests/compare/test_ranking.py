"""Ranking of networks, Pareto front, and the sentences of the conclusion."""

from __future__ import annotations

from halometry.compare.ranking import best_minus_second, conclusion, pareto_front, rank_models
from halometry.evaluation.bootstrap import Interval
from halometry.evaluation.differences import Difference
from helpers.comparison import comparison_record, model_record


def test_conclusion_names_the_best_network_and_its_difference_to_the_second() -> None:
    models = model_record("small", 0.93), model_record("large", 0.97)
    record = comparison_record(*models, best_minus_second=Interval(0.04, 0.03, 0.05))
    assert conclusion(record) == [
        "large is the most accurate: AUC 0.970 [0.960, 0.980].",
        "Its difference to small on the same images is 0.040 [0.030, 0.050]. It is"
        " significant, since its interval excludes zero.",
    ]


def test_conclusion_says_if_the_difference_may_be_zero() -> None:
    models = model_record("a", 0.95), model_record("b", 0.951), model_record("c", 0.8)
    record = comparison_record(*models, best_minus_second=Interval(0.001, -0.009, 0.011))
    sentences = conclusion(record)
    assert len(sentences) == 2
    assert sentences[0].startswith("b is the most accurate")
    assert sentences[1].endswith("a on the same images is 0.001 [-0.009, 0.011]. It is not"
                                 " significant, since its interval includes zero.")  # fmt: skip


def test_conclusion_names_networks_at_chance_level() -> None:
    models = model_record("good", 0.97), model_record("chance", 0.51, half_width=0.02)
    assert conclusion(comparison_record(*models)) == [
        "good is the most accurate: AUC 0.970 [0.960, 0.980].",
        "Not better than chance: chance. The interval of the AUC does not lie above 0.5.",
    ]


def test_interval_decides_whether_a_network_is_better_than_chance() -> None:
    models = [
        model_record("little, but certain", 0.52, half_width=0.01),
        model_record("much, but uncertain", 0.7, half_width=0.25),
    ]
    ranked = [(r.rank, r.model.name) for r in rank_models(models, "auc")]
    assert ranked == [(1, "little, but certain"), (None, "much, but uncertain")]


def test_conclusion_if_all_networks_are_at_chance_level() -> None:
    record = comparison_record(model_record("chance", 0.0, key="r2"), task="regression")
    assert conclusion(record) == ["No network is better than chance."]


def test_pareto_front_has_the_networks_that_no_other_beats_in_both() -> None:
    models = [
        model_record("slow and best", 0.97, 9.0),
        model_record("fast", 0.90, 1.0),
        model_record("slower and worse than fast", 0.89, 2.0),
        model_record("as fast and worse", 0.80, 1.0),
        model_record("fastest, at chance level", 0.51, 0.5),
    ]
    assert [model.name for model in pareto_front(models, "auc")] == ["fast", "slow and best"]
    assert [model.name for model in pareto_front(models[-1:], "auc")] == [models[-1].name]


def test_ranking_is_by_the_key_metric_with_networks_at_chance_level_last() -> None:
    models = [
        model_record("chance", 0.5, 1.0),
        model_record("second", 0.90, 9.0),
        model_record("best", 0.97, 3.0),
    ]
    ranked = [(r.rank, r.model.name, r.on_pareto_front) for r in rank_models(models, "auc")]
    assert ranked == [(1, "best", True), (2, "second", False), (None, "chance", False)]


def test_best_minus_second_is_that_of_the_two_best_in_this_order() -> None:
    models = [model_record(name, v) for name, v in (("a", 0.8), ("b", 0.97), ("c", 0.9))]
    intervals = {("a", "b"): (-0.17, -0.2, -0.1), ("a", "c"): (-0.1, -0.2, 0.0),
                 ("b", "c"): (0.07, 0.02, 0.12)}  # fmt: skip
    pairs = [
        Difference.from_interval("auc", *names, Interval(*numbers))
        for names, numbers in intervals.items()
    ]
    assert best_minus_second(models, pairs, "auc") == Interval(0.07, 0.02, 0.12)
    assert best_minus_second(models[:2], pairs, "auc") == Interval(0.17, 0.1, 0.2)
    assert best_minus_second(models[:1], pairs, "auc") is None
