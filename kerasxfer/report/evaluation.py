"""The figures of a run's model on labelled images: of one class an image, or of all labels that it has."""

from collections.abc import Sequence
from typing import Any

from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.model.task import MULTI_LABEL
from numpy.typing import NDArray

from kerasxfer.multi_label.figures import LabelEvaluation, evaluate_labels
from kerasxfer.multi_label.thresholds import resolve_thresholds
from kerasxfer.report.metrics import Evaluation, evaluate
from kerasxfer.report.runs import Run


def evaluate_run(
    run: Run, labels: NDArray[Any], probabilities: NDArray[Any], thresholds: Sequence[float] = ()
) -> Evaluation | LabelEvaluation:
    """Measure what a run's model answered.

    Args:
        run: The run.
        labels: Class numbers, `[images]`; with several labels to an image which classes each has, `[images, classes]`.
        probabilities: `[images, classes]`.
        thresholds: With several labels to an image, the probability from which each class fits. Defaults to the run's.

    Raises:
        KerasxferError: No image has any label.
    """
    if run.record.config.task != MULTI_LABEL:
        return evaluate(labels, probabilities, run.class_names)
    if not labels.any():
        raise KerasxferError("None of the images has a label of the model, so there is nothing to measure.")
    chosen = resolve_thresholds(None, tuple(thresholds) or run.record.thresholds, run.class_names)
    return evaluate_labels(labels, probabilities, run.class_names, chosen)
