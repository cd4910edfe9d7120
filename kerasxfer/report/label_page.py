"""What the page shows of a run with several labels to an image, in place of accuracy and confusion."""

from typing import Any

import numpy as np
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import ImagePolicy
from numpy.typing import NDArray

from kerasxfer.estimate import Estimate
from kerasxfer.multi_label.figures import LabelEvaluation, LabelFigures
from kerasxfer.report import label_charts, thumbnails
from kerasxfer.report.predictions import LabelledPredictions
from kerasxfer.report.runs import Run

GALLERY = 18


def context(run: Run, predictions: LabelledPredictions, evaluation: LabelEvaluation) -> dict[str, Any]:
    """The part of a run's context that is about its answers."""
    targets, probabilities = predictions.labels.astype(bool), predictions.probabilities
    wrong = evaluation.predicted != targets
    thresholds = np.array([each.threshold for each in evaluation.classes])
    return {
        "classes": _class_rows(evaluation, wrong, targets),
        "label_charts": [
            label_charts.average_precisions(evaluation),
            label_charts.precision_and_recall(evaluation, targets, probabilities),
        ],
        "chosen_here": bool(run.record.thresholds) and predictions.of_validation,
        "mistakes": _gallery(run, predictions, evaluation, np.where(wrong, np.abs(targets - probabilities), -1)),
        "uncertain": _gallery(run, predictions, evaluation, -np.abs(probabilities - thresholds)),
        "wrong": int(wrong.sum()),
        "decisions": wrong.size,
    }


def cards(predictions: LabelledPredictions, evaluation: LabelEvaluation) -> list[dict[str, str]]:
    """The figures at the head of a run."""
    rows = [
        ("Mean average precision", evaluation.mean_average_precision),
        ("Macro F1", evaluation.macro_f1),
        ("Macro AUC", evaluation.macro_auc),
    ]
    shown = [
        {"label": label, "value": f"{figure.value:.3f}", "note": f"95 % CI {_interval(figure)}"}
        for label, figure in rows
        if figure is not None
    ]
    right = f"{100 * evaluation.all_right.value:.1f}\N{NO-BREAK SPACE}% with all labels right"
    return [*shown, {"label": "Images", "value": f"{len(predictions.paths):,}", "note": right}]


def figures(evaluation: LabelEvaluation) -> dict[str, float | None]:
    """The figures of a run, by the names that JSON has for them."""
    average = evaluation.mean_average_precision
    return {
        "mean_average_precision": average.value,
        "low": average.low,
        "high": average.high,
        "macro_f1": evaluation.macro_f1.value,
        "micro_f1": evaluation.micro_f1.value,
        "macro_auc": evaluation.macro_auc.value if evaluation.macro_auc else None,
        "all_right": evaluation.all_right.value,
    }


def comparison_row(evaluation: LabelEvaluation) -> dict[str, str]:
    """The columns of a comparison that are about a run's answers."""
    return {
        "Mean average precision": f"{evaluation.mean_average_precision.value:.3f}",
        "95 % interval": _interval(evaluation.mean_average_precision),
        "Macro F1": f"{evaluation.macro_f1.value:.3f}",
    }


def _class_rows(
    evaluation: LabelEvaluation, wrong: NDArray[np.bool_], targets: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    missed, added = (wrong & targets).sum(axis=0), (wrong & ~targets).sum(axis=0)
    columns = range(len(evaluation.classes))
    return [
        {
            "Label": each.name,
            "Images": each.images,
            "AP": _with_interval(each.average_precision),
            "F1": _with_interval(each.f1),
            "AUC": _with_interval(each.auc),
            "Threshold": f"{each.threshold:.4g}",
            "Precision": "–" if each.precision is None else f"{each.precision:.3f}",
            "Recall": "–" if each.recall is None else f"{each.recall:.3f}",
            "Missed": int(missed[column]),
            "Wrongly said": int(added[column]),
        }
        for each, column in sorted(zip(evaluation.classes, columns, strict=True), key=_weakness)
    ]


def _weakness(entry: tuple[LabelFigures, int]) -> float:
    figure = entry[0].average_precision
    return figure.value if figure else -1.0


def _with_interval(figure: Estimate | None) -> str:
    return "–" if figure is None else f"{figure.value:.3f} ({_interval(figure)})"


def _interval(figure: Estimate) -> str:
    return f"{figure.low:.3f}–{figure.high:.3f}"


def _gallery(
    run: Run, predictions: LabelledPredictions, evaluation: LabelEvaluation, interest: NDArray[Any]
) -> list[dict[str, Any]]:
    """An entry for each image, with the label that is most interesting in it; -1 is of no interest."""
    policy = ImagePolicy.from_dict(run.record.config.policy)
    entries = []
    for row in np.argsort(-interest.max(axis=1), kind="stable")[:GALLERY]:
        column = int(interest[row].argmax())
        if interest[row, column] == -1:
            break
        try:
            image = thumbnails.thumbnail(predictions.root / predictions.paths[row], policy)
        except ImageError:  # it could be read a minute ago
            image = None
        labels = [name for name, has in zip(run.class_names, predictions.labels[row], strict=True) if has]
        entries.append(
            {
                "image": image,
                "path": predictions.paths[row],
                "label": run.class_names[column],
                "probability": float(predictions.probabilities[row, column]),
                "said": bool(evaluation.predicted[row, column]),
                "right": bool(evaluation.predicted[row, column] == predictions.labels[row, column]),
                "true": ", ".join(labels) or "none",
            }
        )
    return entries
