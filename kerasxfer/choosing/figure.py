"""The Pareto figure: what each candidate gets right, against how fast it answers here."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from kerasxfer.choosing.results import Choice
from kerasxfer.estimate import Estimate
from kerasxfer.plots import QUIET, TRAINING, VALIDATION

_MARKS = {"fp32": {**VALIDATION, "label": "fp32"}, "int8": {**TRAINING, "label": "int8"}}


class Point(NamedTuple):
    """A candidate in one precision."""

    name: str
    precision: str
    x: float
    score: Estimate


def pareto_figure(choice: Choice) -> Figure:
    """Draw scores with their intervals against images a second, or against weights where rates were not measured.

    Args:
        choice: What came out of `kerasxfer.choose`.

    Returns:
        A `matplotlib.figure.Figure`; the line joins the candidates that no other beats in both.
    """
    points = _points(choice)
    rated = any(result.speed.rates for result in choice.results)
    figure = Figure(figsize=(8.4, 5.0), dpi=120, layout="constrained")
    axes = figure.subplots()
    for precision, style in _MARKS.items():
        drawn = [point for point in points if point.precision == precision]
        if not drawn or (not rated and precision == "int8"):
            continue
        axes.errorbar(
            [point.x for point in drawn],
            [point.score.value for point in drawn],
            yerr=[
                [point.score.value - point.score.low for point in drawn],
                [point.score.high - point.score.value for point in drawn],
            ],
            linestyle="none",
            elinewidth=1,
            markersize=7,
            **style,
        )
    front = pareto_front(points, more_is_better=rated)
    axes.plot([point.x for point in front], [point.score.value for point in front], color=QUIET, linewidth=1, zorder=0)
    for point in points:
        if point.precision == "fp32":
            bold = choice.recommended is not None and point.name == choice.recommended.candidate.name
            weight = "bold" if bold else "normal"
            axes.annotate(
                point.name, (point.x, point.score.value), (7, 7), textcoords="offset points", fontsize=9, weight=weight
            )
    if choice.min_rate:
        axes.axvline(choice.min_rate, color=QUIET, linewidth=1, linestyle=(0, (2, 2)))
        axes.annotate(
            f"{choice.min_rate:g} images/s",
            (choice.min_rate, 1),
            (4, -12),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=8,
            color=QUIET,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel("images a second on this machine, files in and answers out" if rated else "weights", color=QUIET)
    axes.set_ylabel(f"{choice.metric} out of fold, with its interval", color=QUIET)
    axes.grid(axis="y", color="#E3E3E3", linewidth=0.8)
    axes.tick_params(colors=QUIET, length=0, which="both")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#B0B0B0")
    axes.margins(x=0.14, y=0.08)
    if rated:
        axes.legend(frameon=False, loc="lower left")
    return figure


def pareto_front(points: Sequence[Point], *, more_is_better: bool) -> list[Point]:
    """The points that no other beats in both, from the best score to the best `x`."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.score.value, -point.x if more_is_better else point.x)):
        if not front or (point.x > front[-1].x if more_is_better else point.x < front[-1].x):
            front.append(point)
    return front


def _points(choice: Choice) -> list[Point]:
    points = []
    for result in choice.results:
        name = result.candidate.name
        for precision, measured in result.speed.rates.items():
            points.append(Point(name, precision, measured.rate, result.score))
    return points or [
        Point(result.candidate.name, "fp32", result.parameters, result.score) for result in choice.results
    ]
