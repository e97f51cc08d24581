from itertools import combinations

from halometry.compare.figures import pareto_figure


def test_names_of_networks_alike_stand_apart():
    common = {"latency_ms": 5.0, "quality": 0.9, "low": 0.88, "high": 0.92, "parameters": 7e4}
    points = [common | {"name": name, "on_front": True} for name in ("one", "two", "three")]
    labels = pareto_figure(points, "AUC").axes[0].texts
    assert [label.get_text() for label in labels] == [
        f"{name}\n0.07 M" for name in ("one", "two", "three")
    ]
    boxes = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
