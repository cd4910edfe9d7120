"""Whether a file gives its source's answers: the comparison, and the gate that fails."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Gate:
    """What must hold between a file and its source.

    Args:
        max_difference: Largest difference of a probability, or `None`.
        same_top_class: Smallest share of images with the same top class.
        accuracy_loss: Largest loss of accuracy on labelled images, as a share, or `None`.
    """

    max_difference: float | None = None
    same_top_class: float = 0.0
    accuracy_loss: float | None = None


GATES = {
    "fp32": Gate(max_difference=1e-5, same_top_class=1.0),
    "fp16": Gate(same_top_class=0.995),
    "int8": Gate(accuracy_loss=0.01),
}
# Without labels there is no accuracy: it cannot fall by more than the share of images that change their class.
UNLABELLED_INT8 = Gate(same_top_class=0.95)
# Sums in another order on a GPU, TF32 off.
CUDA_GATES = {**GATES, "fp32": Gate(max_difference=1e-4, same_top_class=1.0)}


@dataclass(frozen=True)
class Accuracy:
    """Share of labelled images that are right, with its 95 % Wilson interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, right: int, total: int) -> "Accuracy":
        """From counts, `total >= 1`.

        Example:

        ```python
        accuracy = Accuracy.of(90, 100)
        assert (round(accuracy.low, 3), round(accuracy.high, 3)) == (0.826, 0.945)
        ```
        """
        z, p = 1.96, right / total
        centre, spread = p + z * z / (2 * total), z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
        scale = 1 + z * z / total
        return cls(p, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))

    def __str__(self) -> str:
        return f"{self.value:.2%} ({self.low:.2%} to {self.high:.2%})"


@dataclass(frozen=True)
class Parity:
    """The comparison of a file with its source.

    Args:
        pictures: How many images were compared.
        max_difference: Largest difference of a probability; infinite where one is not a number.
        mean_difference: Mean over images of each one's largest difference.
        same_top_class: Share of images with the same top class.
        spread: How far the source's answers lie apart. Close to 0, nothing is proved.
        worst: The images that differ most, worst first.
        source_accuracy: The Keras model's accuracy on labelled images, else `None`.
        file_accuracy: The exported file's accuracy on labelled images, else `None`.
    """

    pictures: int
    max_difference: float
    mean_difference: float
    same_top_class: float
    spread: float
    worst: tuple[dict[str, Any], ...]
    source_accuracy: Accuracy | None = None
    file_accuracy: Accuracy | None = None

    def __str__(self) -> str:
        text = (
            f"{self.pictures} images, same top class {self.same_top_class:.2%}, "
            f"largest difference {self.max_difference:.2g}, mean {self.mean_difference:.2g}"
        )
        if self.source_accuracy is None:
            return text
        return f"{text}; accuracy {self.source_accuracy} in Keras, {self.file_accuracy} in the file"

    def failure(self, gate: Gate) -> str | None:
        """What breaks the gate, with the image it shows on, or `None`."""
        worst = self.worst[0]
        shown = (
            f"Farthest apart: `{worst['picture']}`, by {worst['difference']:.3g}: the source says {worst['source']}, "
            f"the file {worst['file']}."
        )
        if gate.max_difference is not None and not self.max_difference <= gate.max_difference:
            return f"`probabilities` differs by {self.max_difference:.3g}; at most {gate.max_difference:g} may. {shown}"
        if self.same_top_class < gate.same_top_class:
            share = f"{self.same_top_class:.2%} of {self.pictures} images"
            return f"The top class is the same for {share}; at least {gate.same_top_class:.1%} must. {shown}"
        if gate.accuracy_loss is None or self.source_accuracy is None or self.file_accuracy is None:
            return None
        lost = self.source_accuracy.value - self.file_accuracy.value
        if lost > gate.accuracy_loss + 1e-9:  # 1.00 - 0.99 is a little more than 0.01
            return (
                f"Accuracy falls from {self.source_accuracy} to {self.file_accuracy}; at most "
                f"{100 * gate.accuracy_loss:g} point may be lost. {shown}"
            )
        return None

    def summary(self) -> dict[str, Any]:
        """The figures for a manifest: differences as powers of ten, for their last digits vary from run to run."""
        figures: dict[str, Any] = {
            "pictures": self.pictures,
            "max_difference_below": power_of_ten_above(self.max_difference),
            "same_top_class": round(self.same_top_class, 6),
        }
        for name in ("source_accuracy", "file_accuracy"):
            if (accuracy := getattr(self, name)) is not None:
                figures[name] = {key: round(value, 6) for key, value in asdict(accuracy).items()}
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
) -> Parity:
    """Compare two sets of probabilities.

    Args:
        source: Probabilities of the Keras model, `[n, columns]`: one column, or one for each class.
        file: Probabilities of the exported file, of the same shape.
        names: The images' names.
        class_names: The classes.
        labels: Their class numbers, or `None`.

    Returns:
        A `Parity`.
    """
    source, file = class_columns(source), class_columns(file)
    apart = np.abs(source.astype(np.float64) - file).max(axis=1)
    apart = np.where(np.isnan(apart), np.inf, apart)
    # A tie in the source may fall either way: the file's class must be one of the source's best.
    chosen = np.take_along_axis(source, file.argmax(axis=1)[:, None], axis=1)[:, 0]
    same = (source.max(axis=1) - chosen <= 1e-6) & np.isfinite(apart)
    worst = np.argsort(-apart, kind="stable")[:5]
    return Parity(
        pictures=len(set(names)),
        max_difference=float(apart.max()),
        mean_difference=float(apart.mean()),
        same_top_class=float(same.mean()),
        spread=float(np.ptp(source, axis=0).max()),
        worst=tuple(
            {
                "picture": names[row],
                "difference": float(apart[row]),
                "source": _said(source[row], class_names),
                "file": _said(file[row], class_names),
            }
            for row in worst
        ),
        source_accuracy=None if labels is None else _accuracy(source, labels),
        file_accuracy=None if labels is None else _accuracy(file, labels),
    )


def class_columns(probabilities: Array) -> Array:
    """One column for each class: a single sigmoid column is the second class's."""
    return np.hstack([1 - probabilities, probabilities]) if probabilities.shape[1] == 1 else probabilities


def power_of_ten_above(value: float) -> float:
    """The smallest power of ten that is not below `value`; 0 for 0."""
    if value == 0 or not math.isfinite(value):
        return value
    return float(f"1e{math.ceil(math.log10(value))}")


def _said(row: Array, class_names: Sequence[str]) -> str:
    return f"{class_names[int(row.argmax())]} {float(row.max()):.6f}"


def _accuracy(probabilities: Array, labels: Sequence[int] | Array) -> Accuracy:
    return Accuracy.of(int((probabilities.argmax(axis=1) == np.asarray(labels)).sum()), len(probabilities))
