"""Whether a file gives its source's answers: the comparison, and the gate that fails."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasxfer.estimate import Estimate
from kerasxfer.multi_label.figures import mean_average_precision

Array = NDArray[Any]


@dataclass(frozen=True)
class Gate:
    """What must hold between a file and its source.

    Args:
        max_difference: Largest difference of a probability, or `None`.
        same_answers: Smallest share of images with the same top class, or of their labels that are the same.
        score_loss: Largest loss of accuracy, or of mean average precision, on labelled images, or `None`.
    """

    max_difference: float | None = None
    same_answers: float = 0.0
    score_loss: float | None = None


GATES = {
    "fp32": Gate(max_difference=1e-5, same_answers=1.0),
    "fp16": Gate(same_answers=0.995),
    "int8": Gate(score_loss=0.01),
}
# Without labels there is no accuracy: it cannot fall by more than the share of images that change their class.
UNLABELLED_INT8 = Gate(same_answers=0.95)
# Sums in another order on a GPU, TF32 off.
CUDA_GATES = {**GATES, "fp32": Gate(max_difference=1e-4, same_answers=1.0)}

_CLASS_TIE = 1e-6
_LABEL_TIE = 1e-4  # as far as a file may be from its source on any device


@dataclass(frozen=True)
class Parity:
    """The comparison of a file with its source.

    Args:
        pictures: How many images were compared.
        max_difference: Largest difference of a probability; infinite where one is not a number.
        mean_difference: Mean over images of each one's largest difference.
        same_top_class: Share of images with the same top class; `None` of a multi-label model.
        same_labels: Of a multi-label model, share of the decisions, image by class, that fall alike; else `None`.
        spread: How far the source's answers lie apart. Close to 0, nothing is proved.
        worst: The images that differ most, worst first.
        source_accuracy: The Keras model's accuracy on labelled images, else `None`.
        file_accuracy: The exported file's accuracy on labelled images, else `None`.
        source_map: A multi-label Keras model's mean average precision on labelled images, else `None`.
        file_map: The exported file's mean average precision on labelled images, else `None`.
    """

    pictures: int
    max_difference: float
    mean_difference: float
    same_top_class: float | None
    spread: float
    worst: tuple[dict[str, Any], ...]
    source_accuracy: Estimate | None = None
    file_accuracy: Estimate | None = None
    same_labels: float | None = None
    source_map: Estimate | None = None
    file_map: Estimate | None = None

    def __str__(self) -> str:
        what = "same top class" if self.same_labels is None else "same labels"
        text = (
            f"{self.pictures} images, {what} {self.same_answers:.2%}, "
            f"largest difference {self.max_difference:.2g}, mean {self.mean_difference:.2g}"
        )
        if (score := self._score()) is None:
            return text
        name, source, file = score
        return f"{text}; {name} {source} in Keras, {file} in the file"

    @property
    def same_answers(self) -> float:
        """`same_top_class`, or `same_labels` of a multi-label model."""
        return next(share for share in (self.same_top_class, self.same_labels) if share is not None)

    def _score(self) -> tuple[str, Estimate, Estimate] | None:
        """What was measured on labelled images: its name, the source's and the file's."""
        if self.source_accuracy is not None and self.file_accuracy is not None:
            return "accuracy", self.source_accuracy, self.file_accuracy
        if self.source_map is not None and self.file_map is not None:
            return "mean average precision", self.source_map, self.file_map
        return None

    def failure(self, gate: Gate) -> str | None:
        """What breaks the gate, with the image it shows on, or `None`."""
        worst = self.worst[0]
        shown = (
            f"Farthest apart: `{worst['picture']}`, by {worst['difference']:.3g}: the source says {worst['source']}, "
            f"the file {worst['file']}."
        )
        if gate.max_difference is not None and not self.max_difference <= gate.max_difference:
            return f"`probabilities` differs by {self.max_difference:.3g}; at most {gate.max_difference:g} may. {shown}"
        if self.same_answers < gate.same_answers:
            what = "The top class is the same for" if self.same_labels is None else "Labels are the same in"
            share = f"{self.same_answers:.2%} of {self.pictures} images"
            return f"{what} {share}; at least {gate.same_answers:.1%} must. {shown}"
        if gate.score_loss is None or (score := self._score()) is None:
            return None
        name, source, file = score
        if source.value - file.value > gate.score_loss + 1e-9:  # 1.00 - 0.99 is a little more than 0.01
            return (
                f"{name.capitalize()} falls from {source} to {file}; at most {100 * gate.score_loss:g} point may be "
                f"lost. {shown}"
            )
        return None

    def summary(self) -> dict[str, Any]:
        """The figures for a manifest: differences as powers of ten, for their last digits vary from run to run."""
        figures: dict[str, Any] = {
            "pictures": self.pictures,
            "max_difference_below": power_of_ten_above(self.max_difference),
            "same_top_class" if self.same_labels is None else "same_labels": round(self.same_answers, 6),
        }
        for name in ("source_accuracy", "file_accuracy", "source_map", "file_map"):
            if (score := getattr(self, name)) is not None:
                figures[name] = {key: round(value, 6) for key, value in asdict(score).items()}
        return figures

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


def compare_answers(
    source: Array,
    file: Array,
    names: Sequence[str],
    class_names: Sequence[str],
    labels: Sequence[int] | Array | None = None,
    thresholds: Sequence[float] = (),
) -> Parity:
    """Compare two sets of probabilities.

    Args:
        source: Probabilities of the Keras model, `[n, columns]`: one column, or one for each class.
        file: Probabilities of the exported file, of the same shape.
        names: The images' names.
        class_names: The classes.
        labels: Their class numbers, or of a multi-label model which classes each has, `[n, classes]`; or `None`.
        thresholds: Of a multi-label model, the probability from which each class fits. Defaults to none: classes
            that exclude each other.

    Returns:
        A `Parity`.
    """
    if not thresholds:
        source, file = class_columns(source), class_columns(file)
    differences = np.abs(source.astype(np.float64) - file)
    differences = np.where(np.isnan(differences), np.inf, differences)
    apart = differences.max(axis=1)
    worst = np.argsort(-apart, kind="stable")[:5]
    shown = differences.argmax(axis=1) if thresholds else None
    parity = Parity(
        pictures=len(set(names)),
        max_difference=float(apart.max()),
        mean_difference=float(apart.mean()),
        same_top_class=None if thresholds else _same_top_class(source, file),
        spread=float(np.ptp(source, axis=0).max()),
        worst=tuple(
            {
                "picture": names[row],
                "difference": float(apart[row]),
                "source": _said(source[row], class_names, shown if shown is None else shown[row]),
                "file": _said(file[row], class_names, shown if shown is None else shown[row]),
            }
            for row in worst
        ),
        same_labels=_same_labels(source, file, thresholds) if thresholds else None,
    )
    if labels is None:
        return parity
    if not thresholds:
        return replace(parity, source_accuracy=_accuracy(source, labels), file_accuracy=_accuracy(file, labels))
    if not np.any(labels):
        return parity  # no image has a label, so there is nothing to be found
    return replace(
        parity,
        source_map=mean_average_precision(np.asarray(labels), source),
        file_map=mean_average_precision(np.asarray(labels), file),
    )


def class_columns(probabilities: Array) -> Array:
    """One column for each class: a single sigmoid column is the second class's."""
    return np.hstack([1 - probabilities, probabilities]) if probabilities.shape[1] == 1 else probabilities


def power_of_ten_above(value: float) -> float:
    """The smallest power of ten that is not below `value`; 0 for 0."""
    if value == 0 or not math.isfinite(value):
        return value
    return float(f"1e{math.ceil(math.log10(value))}")


def _same_top_class(source: Array, file: Array) -> float:
    # A tie in the source may fall either way: the file's class must be one of the source's best.
    chosen = np.take_along_axis(source, file.argmax(axis=1)[:, None], axis=1)[:, 0]
    same = (source.max(axis=1) - chosen <= _CLASS_TIE) & np.isfinite(file).all(axis=1)
    return float(same.mean())


def _same_labels(source: Array, file: Array, thresholds: Sequence[float]) -> float:
    limits = np.asarray(thresholds)
    same = ((source >= limits) == (file >= limits)) | (np.abs(source - limits) <= _LABEL_TIE)
    return float((same & np.isfinite(file)).mean())


def _said(row: Array, class_names: Sequence[str], column: int | None = None) -> str:
    """What is said of the class in a column, or of the most probable one."""
    column = int(row.argmax()) if column is None else int(column)
    return f"{class_names[column]} {float(row[column]):.6f}"


def _accuracy(probabilities: Array, labels: Sequence[int] | Array) -> Estimate:
    return Estimate.of_share(int((probabilities.argmax(axis=1) == np.asarray(labels)).sum()), len(probabilities))
