"""The picture of a benchmark: what is drawn where, from figures that are made up."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from test_benchmark import results

from simulator.bench.picture import drawn, picture

LATENCIES = ("latency_p50", "latency_p99")


def of(**events: float) -> dict[str, Any]:
    """Results of workloads that differ in their events a second alone."""
    data = results(1)
    data["workloads"] = {
        name: results(number)["workloads"]["W1"] | {"stresses": f"stress {name}"}
        for name, number in events.items()
    }
    return data


def without(data: dict[str, Any], *names: str, figures: tuple[str, ...] = LATENCIES) -> None:
    for name in names:
        entry = data["workloads"][name]
        for there in (entry["median"], *entry["runs"]):
            there.update(dict.fromkeys(figures))


def panel(figure: Figure, title: str) -> Axes:
    (axes,) = (axes for axes in figure.axes if axes.get_title("left").startswith(title))
    return axes


def words(axes: Axes) -> list[str]:
    return [text.get_text().lstrip("\u2007\u2008") for text in axes.texts]


def labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def legend(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_a_longer_bar_before_is_not_cut_off() -> None:
    axes = panel(drawn(of(W1=1000), of(W1=50_000)), "events/s")
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] > 50_000


def test_a_run_far_above_the_median_is_not_cut_off() -> None:
    data = results(100, 100, 300)
    assert panel(drawn(data, None), "events/s").get_xlim()[1] > 300


def test_the_legend_names_both_whatever_was_measured_before() -> None:
    before, after = legend(drawn(of(W1=1000, W2=1000), of(W2=1000)))
    assert before == "before"
    assert after.startswith("after")
    assert drawn(of(W1=1000), None).legends == []


def test_numbers_and_ratios_stand_beside_both_bars() -> None:
    axes = panel(drawn(of(W1=2000, W2=1000), of(W1=1000)), "events/s")
    assert words(axes) == ["1,000", "2,000 (2.00x)", "1,000 (new)"]
    assert words(panel(drawn(of(W1=2000), None), "events/s")) == ["2,000"]


def test_a_figure_that_was_zero_before_has_no_ratio() -> None:
    before = of(W1=1000)
    before["workloads"]["W1"]["median"]["events_per_second"] = 0
    assert words(panel(drawn(of(W1=1000), before), "events/s")) == ["0", "1,000"]


def test_bars_begin_at_zero_and_far_apart_there_are_dots() -> None:
    near = panel(drawn(of(W1=90_000, W6=1000), None), "events/s")
    assert (near.get_xscale(), near.get_xlim()[0], len(near.patches)) == ("linear", 0, 2)
    far = panel(drawn(of(W1=900_000, W6=1000), None), "events/s, logarithmic")
    assert (far.get_xscale(), len(far.patches)) == ("log", 0)
    assert far.get_xlim()[0] < 1000 < 900_000 < far.get_xlim()[1]


def test_a_panel_is_as_high_as_its_workloads() -> None:
    data = of(W1=1000, W2=1000, W4=1000, W6=1000)
    without(data, "W1", "W2", "W4")
    figure = drawn(data, None)
    figure.draw_without_rendering()
    heights = {
        name: panel(figure, name).get_position().height for name in ("events/s", "latency p50, ms")
    }
    assert heights["latency p50, ms"] < heights["events/s"] / 3
    assert labels(panel(figure, "latency p50, ms")) == ["stress W6  W6"]
    assert len(words(panel(figure, "latency p99, ms"))) == 1


def test_workloads_are_named_by_what_they_stress() -> None:
    data = of(W1=1000, W6=1000)
    data["workloads"]["W6"]["passed"] = False
    figure = drawn(data, None)
    assert labels(panel(figure, "events/s")) == ["stress W1  W1", "stress W6  W6\nFAILED"]
    assert labels(panel(figure, "deliveries/s")) == ["", ""]


def test_what_a_workload_did_not_measure_is_left_out_of_its_row() -> None:
    data = of(W1=1000, W6=1000)
    without(data, "W1", figures=("latency_p99",))
    without(data, "W1", "W6", figures=("deliveries_per_second",))
    figure = drawn(data, None)
    assert len(words(panel(figure, "latency p99, ms"))) == 1
    assert len(figure.axes) == 5


@pytest.mark.parametrize("form", ["png", "svg"])
def test_it_is_written(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"picture.{form}"
    data = json.loads(json.dumps(of(W1=1_000_000, W6=9_000)))
    picture(data, data, str(path), form)
    assert path.stat().st_size > 10_000
    with pytest.raises(OSError, match="No such file"):
        picture(data, None, str(tmp_path / "nowhere" / "picture"), form)
