"""Interactive charts as Plotly figures. The page gives them its colours, light or dark, and its size.

A trace carries in `meta` what it is, `"raw"` or `"smoothed"`: the page's buttons switch on that.
"""

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from kerasxfer.histories import stage_starts
from kerasxfer.plots import curve_names
from kerasxfer.report.metrics import Evaluation
from kerasxfer.report.runs import Run
from kerasxfer.smoothing import smooth_curve

# After Okabe and Ito, so lightened or darkened that each is seen on white and on near-black.
COLOURS = ("#1F83C4", "#E0681A", "#159A76", "#B8589A", "#A37B00", "#7A6FF0", "#777777", "#C0392B")
SIDES = (("", "training"), ("val_", "validation"))


def curves(runs: Sequence[Run]) -> dict[str, go.Figure]:
    """A chart for each metric: one run's training and validation, or the runs beside each other."""
    names = dict.fromkeys(name for run in runs for name in curve_names(run.history))
    return {name: _curves(runs, name) for name in sorted(names, key=lambda name: name.endswith("loss"))}


def _curves(runs: Sequence[Run], name: str) -> go.Figure:
    figure = go.Figure(layout={"hovermode": "x unified", "xaxis": {"title": "epoch", "rangemode": "tozero"}})
    for number, run in enumerate(runs):
        epochs = [int(epoch) + 1 for epoch in run.history["epoch"]]
        for side, (prefix, label) in enumerate(SIDES):
            raw = run.history.get(prefix + name)
            if raw is None:
                continue
            smoothed = run.history.get(f"smoothed_{prefix}{name}") or smooth_curve(raw)
            shown = label if len(runs) == 1 else _plain(f"{run.name}, {label}")
            colour = COLOURS[side if len(runs) == 1 else number % len(COLOURS)]
            dash = "dot" if len(runs) > 1 and not prefix else "solid"
            _add_curve(figure, shown, epochs, raw, smoothed, colour, dash)
    if len(runs) == 1:
        _add_stages(figure, runs[0].history)
    return figure


def _add_curve(
    figure: go.Figure, label: str, epochs: list[int], raw: list[Any], smoothed: list[Any], colour: str, dash: str
) -> None:
    """Raw points, joined by a faint line, and the smoothed line."""
    common = {"x": epochs, "legendgroup": label, "hovertemplate": "%{y:.4f}", "connectgaps": True}
    marker = {"color": colour, "size": 5}
    line = {"color": colour, "width": 1, "dash": dash}
    figure.add_scatter(
        y=raw, name=label, meta="raw", mode="lines+markers", opacity=0.45, marker=marker, line=line, **common
    )
    line = {"color": colour, "width": 3, "dash": dash}
    figure.add_scatter(y=smoothed, name=f"{label}, smoothed", meta="smoothed", mode="lines", line=line, **common)


def _add_stages(figure: go.Figure, history: dict[str, list[Any]]) -> None:
    for position, label in stage_starts(history):
        first = history["epoch"][position] + 0.5
        if position:
            figure.add_vline(first, line={"width": 1, "dash": "dot", "color": "#888888"})
        figure.add_annotation(
            x=first, xanchor="left", y=1, yref="paper", yanchor="bottom", text=_plain(label), showarrow=False
        )


def calibration(evaluation: Evaluation) -> go.Figure:
    """How often the model is right when it is so and so sure, beside how often it ought to be."""
    bins = evaluation.bins
    counts = [f"{b.pictures} picture{'s' if b.pictures != 1 else ''} from {b.low:.0%} to {b.high:.0%}" for b in bins]
    figure = go.Figure(
        layout={
            "xaxis": {"title": "confidence", "range": [0, 1.02], "tickformat": ".0%"},
            "yaxis": {"title": "accuracy", "range": [0, 1.02], "tickformat": ".0%"},
        }
    )
    figure.add_scatter(
        x=[0, 1], y=[0, 1], name="perfectly calibrated", mode="lines", hoverinfo="skip",
        line={"dash": "dot", "color": "#888888", "width": 1.5},
    )  # fmt: skip
    figure.add_scatter(
        x=[b.confidence for b in bins],
        y=[b.accuracy.value for b in bins],
        error_y={
            "array": [b.accuracy.high - b.accuracy.value for b in bins],
            "arrayminus": [b.accuracy.value - b.accuracy.low for b in bins],
            "thickness": 1.5,
        },
        text=counts,
        name="this model, with 95 % interval",
        mode="lines+markers",
        marker={"color": COLOURS[0], "size": 9},
        line={"color": COLOURS[0], "width": 2},
        hovertemplate="confidence %{x:.1%}, accuracy %{y:.1%}<br>%{text}<extra></extra>",
    )
    return figure


def confusion(evaluation: Evaluation, class_names: Sequence[str]) -> go.Figure:
    """The confusion matrix as a heat map, for more classes than a table can show."""
    counts = evaluation.confusion
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    names = [_plain(name) for name in class_names]
    figure = go.Figure(layout={"xaxis": {"title": "predicted"}, "yaxis": {"title": "true", "autorange": "reversed"}})
    figure.add_heatmap(
        z=shares, x=names, y=names, customdata=counts, zmin=0, zmax=1, colorscale="Cividis",
        colorbar={"tickformat": ".0%", "thickness": 12},
        hovertemplate="true %{y}, predicted %{x}<br>%{customdata} pictures, %{z:.1%}<extra></extra>",
    )  # fmt: skip
    return figure


def _plain(text: str) -> str:
    """Text that Plotly shows as it is: it reads labels as a little HTML."""
    return html.escape(text)
