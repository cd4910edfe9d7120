"""Charts of a multi-label classifier: how good it is at each label, and what another threshold would change."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from kerasxfer.multi_label.figures import LabelEvaluation
from kerasxfer.report.charts import COLOURS, Chart, Key, plain

_MOST_POINTS = 200


def average_precisions(evaluation: LabelEvaluation) -> Chart:
    """The average precision of each class with its interval, the weakest on top."""
    known = [(each, each.average_precision) for each in evaluation.classes if each.average_precision is not None]
    known.sort(key=lambda pair: pair[1].value)
    figure = go.Figure(
        layout={
            "xaxis": {"title": "average precision", "range": [0, 1.02]},
            "yaxis": {"type": "category", "autorange": "reversed"},
        }
    )
    key = Key("95 % interval", COLOURS[0])
    figure.add_scatter(
        x=[average.value for _, average in known],
        y=[plain(each.name) for each, _ in known],
        error_x={
            "array": [average.high - average.value for _, average in known],
            "arrayminus": [average.value - average.low for _, average in known],
            "thickness": 1.5,
        },
        mode="markers",
        marker={"color": key.colour, "size": 9},
        customdata=[each.images for each, _ in known],
        hovertemplate="%{y}: %{x:.3f}<br>%{customdata} images<extra></extra>",
    )
    return Chart("Average precision by label", figure, (key,))


def precision_and_recall(evaluation: LabelEvaluation, targets: NDArray[Any], probabilities: NDArray[Any]) -> Chart:
    """Precision over recall of the weakest classes, as many as there are colours; a dot where the threshold is."""
    known = [
        (each.average_precision.value, column)
        for column, each in enumerate(evaluation.classes)
        if each.average_precision is not None
    ]
    figure = go.Figure(
        layout={"xaxis": {"title": "recall", "range": [0, 1.02]}, "yaxis": {"title": "precision", "range": [0, 1.02]}}
    )
    keys = []
    for colour, (_, column) in zip(COLOURS, sorted(known), strict=False):
        each = evaluation.classes[column]
        precision, recall, _ = precision_recall_curve(targets[:, column], probabilities[:, column])
        points = np.unique(np.linspace(0, len(recall) - 1, _MOST_POINTS).astype(int))
        figure.add_scatter(
            x=recall[points],
            y=precision[points],
            name=plain(each.name),
            mode="lines",
            line={"color": colour, "width": 2, "shape": "hv"},
            hovertemplate="precision %{y:.1%} at recall %{x:.1%}",
        )
        if each.precision is not None:
            figure.add_scatter(
                x=[each.recall],
                y=[each.precision],
                name=plain(each.name),
                mode="markers",
                marker={"color": colour, "size": 10},
                hovertemplate=f"threshold {each.threshold:.4g}: precision %{{y:.1%}}, recall %{{x:.1%}}",
            )
        keys.append(Key(each.name, colour))
    return Chart("Precision over recall", figure, tuple(keys))
