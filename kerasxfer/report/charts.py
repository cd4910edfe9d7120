"""Interactive charts as Plotly figures. The page gives them the colours of its theme, its fonts and their size."""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import plotly.graph_objects as go

from kerasxfer.plots import curve_names
from kerasxfer.report.metrics import Evaluation
from kerasxfer.report.runs import Run
from kerasxfer.runs.histories import stage_starts
from kerasxfer.smoothing import smooth_curve

# After Okabe and Ito, so lightened or darkened that each is seen on white and on near-black.
COLOURS = ("#1F83C4", "#E0681A", "#159A76", "#B8589A", "#A37B00", "#7A6FF0", "#777777", "#C0392B")
SIDES = (("", "training"), ("val_", "validation"))


class Key(NamedTuple):
    """One entry of a chart's key. The page draws it: Plotly's own takes the room of the chart on a phone."""

    label: str
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart with its heading and key.

    A trace carries in `meta` what it is, `"raw"` or `"smoothed"`: the page's buttons switch on that.
    """

    title: str
    figure: go.Figure
    key: tuple[Key, ...] = ()

    @property
    def json(self) -> dict[str, Any]:
        """The figure as the page's script takes it, without Plotly's look."""
        plain: dict[str, Any] = json.loads(self.figure.to_json())
        plain["layout"].pop("template", None)
        return plain


def curves(runs: Sequence[Run]) -> list[Chart]:
    """A chart for each metric: one run's training and validation, or the runs beside each other."""
    names = dict.fromkeys(name for run in runs for name in curve_names(run.history))
    return [_curves(runs, name) for name in sorted(names, key=lambda name: name.endswith("loss"))]


def _curves(runs: Sequence[Run], name: str) -> Chart:
    last = max(int(run.history["epoch"][-1]) + 1 for run in runs)
    axis = {"title": "epoch", "range": [0.5, last + 0.5], "tick0": 0}
    figure = go.Figure(layout={"hovermode": "x unified", "xaxis": axis})
    key = []
    for number, run in enumerate(runs):
        for side, (prefix, label) in enumerate(SIDES):
            if prefix + name in run.history:
                alone = len(runs) == 1
                label = label if alone else f"{run.name}, {label}"
                key.append(Key(label, COLOURS[(side if alone else number) % len(COLOURS)], not (alone or prefix)))
                _add_curve(figure, run.history, prefix + name, key[-1])
    if len(runs) == 1:
        _add_stages(figure, runs[0].history)
    return Chart(name.replace("_", " ").capitalize(), figure, tuple(key))


def _add_curve(figure: go.Figure, history: dict[str, list[Any]], name: str, key: Key) -> None:
    """Raw points joined by a faint line, and the smoothed line."""
    raw = history[name]
    colour, dash, label = key.colour, "dot" if key.dashed else "solid", plain(key.label)
    common = {"x": [int(epoch) + 1 for epoch in history["epoch"]], "hovertemplate": "%{y:.4f}", "connectgaps": True}
    figure.add_scatter(
        y=raw,
        name=label,
        meta="raw",
        mode="lines+markers",
        opacity=0.45,
        marker={"color": colour, "size": 5},
        line={"color": colour, "width": 1, "dash": dash},
        **common,
    )
    figure.add_scatter(
        y=history.get(f"smoothed_{name}") or smooth_curve(raw),
        name=f"{label}, smoothed",
        meta="smoothed",
        mode="lines",
        line={"color": colour, "width": 3, "dash": dash},
        **common,
    )


def _add_stages(figure: go.Figure, history: dict[str, list[Any]]) -> None:
    for position, label in stage_starts(history):
        first = history["epoch"][position] + 0.5
        if position:
            figure.add_vline(first, line={"width": 1, "dash": "dot", "color": "#888888"})
        figure.add_annotation(
            x=first, xanchor="left", y=1, yref="paper", yanchor="bottom", text=plain(label), showarrow=False
        )


def calibration(evaluation: Evaluation) -> Chart:
    """How often the model is right when it is so and so sure, beside how often it ought to be."""
    bins = evaluation.bins
    axis = {"range": [0, 1.02], "tickformat": ".0%"}
    figure = go.Figure(
        layout={
            "xaxis": {**_confidence_axis(evaluation), "title": "confidence"},
            "yaxis": {**axis, "title": "accuracy"},
        }
    )
    ideal, model = Key("perfectly calibrated", "#888888", True), Key("this model, 95 % interval", COLOURS[0])
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", hoverinfo="skip", line={"dash": "dot", "color": ideal.colour, "width": 1.5}
    )
    figure.add_scatter(
        x=[b.confidence for b in bins],
        y=[b.accuracy.value for b in bins],
        error_y={
            "array": [b.accuracy.high - b.accuracy.value for b in bins],
            "arrayminus": [b.accuracy.value - b.accuracy.low for b in bins],
            "thickness": 1.5,
        },
        text=[f"{_images(b.images)} from {b.low:.0%} to {b.high:.0%}" for b in bins],
        name="accuracy",
        mode="lines+markers",
        marker={"color": model.colour, "size": 9},
        line={"color": model.colour, "width": 2},
        hovertemplate="confidence %{x:.1%}, accuracy %{y:.1%}<br>%{text}<extra></extra>",
    )
    return Chart("Accuracy by confidence", figure, (model, ideal))


def confidence(evaluation: Evaluation) -> Chart:
    """How many images lie at each confidence, right and wrong ones."""
    bins = evaluation.bins
    figure = go.Figure(
        layout={
            "barmode": "stack",
            "xaxis": {**_confidence_axis(evaluation), "title": "confidence"},
            "yaxis": {"title": "images"},
        }
    )
    right = [round(b.accuracy.value * b.images) for b in bins]
    wrong = [b.images - count for b, count in zip(bins, right, strict=True)]
    keys = (Key("right", COLOURS[0]), Key("wrong", COLOURS[1]))
    for key, counts in zip(keys, (right, wrong), strict=True):
        figure.add_bar(
            x=[(b.low + b.high) / 2 for b in bins],
            y=counts,
            width=[0.94 * (b.high - b.low) for b in bins],
            name=key.label,
            marker={"color": key.colour},
            hovertemplate=f"%{{y}} {key.label} at about %{{x:.0%}}<extra></extra>",
        )
    return Chart("Images by confidence", figure, keys)


def confusion(evaluation: Evaluation, class_names: Sequence[str]) -> Chart:
    """The confusion matrix as a heat map, for more classes than a table can show."""
    counts = evaluation.confusion
    names = [plain(name) for name in class_names]
    figure = go.Figure(
        layout={
            "xaxis": {"title": "predicted", "type": "category"},
            "yaxis": {"title": "true", "type": "category", "autorange": "reversed"},
        }
    )
    figure.add_heatmap(
        z=counts / counts.sum(axis=1, keepdims=True).clip(min=1),
        x=names,
        y=names,
        customdata=counts,
        zmin=0,
        zmax=1,
        colorscale="Cividis",
        colorbar={"tickformat": ".0%", "thickness": 12},
        hovertemplate="true %{y}, predicted %{x}<br>%{customdata} images, %{z:.1%}<extra></extra>",
    )
    return Chart("Share of each true class, by predicted class", figure)


def _confidence_axis(evaluation: Evaluation) -> dict[str, Any]:
    """From the least confidence that there can be: two classes leave half of the scale empty."""
    return {"range": [min(b.low for b in evaluation.bins) - 0.02, 1.02], "tickformat": ".0%"}


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def plain(text: str) -> str:
    """Text that Plotly shows as it is: it reads labels as a little HTML."""
    return html.escape(text)
