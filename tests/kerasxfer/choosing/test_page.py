import csv
import json
from dataclasses import replace

import pytest
from kerasxfer_serving.benchmarking.measuring import Measurement, Repeat

from kerasxfer.choosing.figure import Point, pareto_figure, pareto_front
from kerasxfer.choosing.learning_curve import LearningCurve
from kerasxfer.choosing.learning_rates import LearningRateTrial
from kerasxfer.choosing.page import write_choice
from kerasxfer.choosing.speed import Speed
from kerasxfer.estimate import Estimate


def measured(rate):
    return Measurement("end_to_end", 8, (Repeat(rate, (1.0,)),) * 3, 0.0, True)


@pytest.fixture
def rated(choice):
    """The choice with rates, and with everything that a page may show."""
    fast = Speed({"fp32": measured(300), "int8": measured(700)}, {"fp32": 10**6, "int8": 300_000})
    slow = Speed({"fp32": measured(200)}, {"fp32": 9 * 10**5})
    results = [replace(result, speed=speed) for result, speed in zip(choice.results, (fast, slow), strict=True)]
    return replace(
        choice,
        results=results,
        min_rate=100.0,
        notes=["MobileNet@32 has no int8 file: its answers are others"],
        cores_of_others=1.5,
        curve=LearningCurve((60, 120, 240), (0.3, 0.2, 0.15), 0.11),
        trials=[LearningRateTrial("block5", 0.0, 0, 0.4, 0.9), LearningRateTrial("block5", 1e-4, 3, 0.3, 0.91)],
    )


def test_the_files_hold_what_was_found(rated, tmp_path):
    page = write_choice(rated, tmp_path / "choose", "shapes").read_text("utf-8")
    data = json.loads((tmp_path / "choose" / "choose.json").read_text("utf-8"))
    assert data["recommended"] == "DemoVGG@32"
    assert data["command"] == rated.command
    assert data["learning_curve"]["at_twice"] == 0.11
    assert list(data["left_out"]) == ["VGG16@32"]
    with (tmp_path / "choose" / "choose.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate"] for row in rows] == ["DemoVGG@32", "MobileNet@32"]
    assert float(rows[0]["int8_rate"]) == 700
    assert rows[1]["int8_rate"] == ""
    assert (tmp_path / "choose" / "pareto.svg").read_text("utf-8").count("</svg>") == 1
    for text in ("take", "kerasxfer train", "0.1100", "block5 at 0.0001", "kept 1.5 cores busy", "VGG16@32"):
        assert text in page


def test_names_are_inert_in_the_page(rated, tmp_path):
    page = write_choice(rated, tmp_path, "<script>alert(1)</script>").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_without_rates_the_figure_is_over_weights(choice):
    (axes,) = pareto_figure(choice).axes
    assert axes.get_xlabel() == "weights"


def test_the_front_is_what_no_other_beats_in_both():
    def point(name, x, value):
        return Point(name, "fp32", x, Estimate(value, value, value))

    points = [point("a", 10, 0.9), point("b", 20, 0.8), point("c", 15, 0.7), point("d", 20, 0.7), point("e", 30, 0.6)]
    assert [each.name for each in pareto_front(points, more_is_better=True)] == ["a", "b", "e"]
    assert [each.name for each in pareto_front(points, more_is_better=False)] == ["a"]
