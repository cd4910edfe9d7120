"""What a model card says of a model with several labels to an image."""

from typing import Any

from kerasxfer.estimate import Estimate
from kerasxfer.export.card_text import table, text
from kerasxfer.multi_label.figures import LabelEvaluation


def results(evaluation: LabelEvaluation, most: int) -> str:
    """The section on what the model reaches.

    Args:
        evaluation: Figures of the file on validation images.
        most: How many classes are listed at most.
    """
    average = evaluation.mean_average_precision
    said = (
        f"Mean average precision **{average.value:.3f}** on {len(evaluation.predicted):,} validation images, 95 % "
        f"interval {average.low:.3f} to {average.high:.3f} (bootstrap over images). Macro F1 "
        f"{evaluation.macro_f1.value:.3f}; {evaluation.all_right.value:.1%} of the images have exactly the right "
        "labels. The figures are those of this file; thresholds, and the best epoch, may have been chosen on the same "
        "images."
    )
    rows = [
        (
            text(each.name),
            str(each.images),
            f"{each.threshold:.4g}",
            _shown(each.average_precision),
            _shown(each.f1),
            _shown(each.auc),
        )
        for each in evaluation.classes[:most]
    ]
    return f"## Labels\n\n{said}\n\n{table(('label', 'images', 'threshold', 'AP', 'F1', 'AUC'), rows)}"


def metrics(evaluation: LabelEvaluation) -> list[dict[str, Any]]:
    """The figures as the Hub's metadata have them."""
    return [
        {"type": "mean_average_precision", "value": round(evaluation.mean_average_precision.value, 4)},
        {"type": "f1", "name": "Macro F1", "value": round(evaluation.macro_f1.value, 4)},
    ]


def _shown(figure: Estimate | None) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})" if figure else ""
