"""What a predictor answers, column by column, and the rows that are written of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import DecodedImage
from kerasxfer_serving.notebook import html_table

OK = "ok"
NOT_FINITE = "not_finite"
_SHOWN = 20


@dataclass
class Predictions:
    """Answers of a predictor, one per input, in the order given.

    Attributes:
        class_names: The classes, in the order of the columns of `probabilities`.
        paths: What the inputs are called.
        status: `"ok"`, or the code of what is wrong.
        messages: What is wrong, or worth knowing, for a person; mostly `""`.
        probabilities: Float32 `[n, classes]`, NaN where `status` is not `"ok"`. A model with one sigmoid unit has two
            columns here too.
        sizes: `(width, height)` of the image before resizing, `None` where unknown.
        features: Float32 `[n, d]` where asked for, else `None`.
        thresholds: Of a multi-label model, the probability from which each class fits; else empty.
        seconds: Time spent, by step.
    """

    class_names: tuple[str, ...]
    paths: list[str]
    status: list[str]
    messages: list[str]
    probabilities: NDArray[np.float32]
    sizes: list[tuple[int, int] | None]
    features: NDArray[np.float32] | None = None
    thresholds: tuple[float, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of_batch(
        cls,
        class_names: tuple[str, ...],
        paths: list[str],
        images: Sequence[DecodedImage | ImageError],
        outputs: Sequence[NDArray[Any]],
        thresholds: tuple[float, ...] = (),
    ) -> "Predictions":
        """Put together what was decoded and what the model said; an image without an answer gets NaN."""
        answered = np.isfinite(outputs[0]).all(axis=1)
        judged = [_judge(image, bool(good)) for image, good in zip(images, answered, strict=True)]
        status = [code for code, _, _ in judged]
        bad = np.array([code != OK for code in status], bool)
        probabilities, *features = (np.where(bad[:, None], np.float32(np.nan), output) for output in outputs)
        messages, sizes = [message for _, message, _ in judged], [size for _, _, size in judged]
        return cls(
            class_names, paths, status, messages, probabilities, sizes, features[0] if features else None, thresholds
        )

    @classmethod
    def concatenate(cls, batches: Sequence["Predictions"]) -> "Predictions":
        """One `Predictions` of many, in order."""
        first = batches[0]
        return cls(
            class_names=first.class_names,
            paths=[path for batch in batches for path in batch.paths],
            status=[code for batch in batches for code in batch.status],
            messages=[message for batch in batches for message in batch.messages],
            probabilities=np.concatenate([batch.probabilities for batch in batches]),
            sizes=[size for batch in batches for size in batch.sizes],
            features=_concatenate_features(batches),
            thresholds=first.thresholds,
            seconds={step: sum(batch.seconds[step] for batch in batches) for step in first.seconds},
        )

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, rows: Sequence[int]) -> "Predictions":
        """The answers to some of the inputs, by their rows."""
        return replace(
            self,
            paths=[self.paths[row] for row in rows],
            status=[self.status[row] for row in rows],
            messages=[self.messages[row] for row in rows],
            probabilities=self.probabilities[rows],
            sizes=[self.sizes[row] for row in rows],
            features=None if self.features is None else self.features[rows],
            seconds={},
        )

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Which inputs have an answer."""
        return np.array([code == OK for code in self.status], bool)

    @property
    def labels(self) -> list[str | None]:
        """The most probable class of each input, `None` where there is no answer."""
        best = np.where(self.ok[:, None], self.probabilities, 0).argmax(axis=1)
        return [self.class_names[column] if ok else None for column, ok in zip(best, self.ok, strict=True)]

    def _repr_html_(self) -> str:
        first = self.select(range(min(len(self), _SHOWN)))
        bad = len(self) - int(self.ok.sum())
        return html_table(first.rows(), caption=f"{len(self):,} images, {bad:,} without an answer.")

    @property
    def label_sets(self) -> list[tuple[str, ...] | None]:
        """The classes of each input that reach their thresholds, the most probable first; `None` without an answer."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        fits = self.probabilities >= np.array(self.thresholds)
        return [
            tuple(self.class_names[column] for column in order[row] if fits[row, column]) if ok else None
            for row, ok in enumerate(self.ok)
        ]

    def rows(self, top_k: int = 1, *, all_probabilities: bool = False) -> Iterator[dict[str, Any]]:
        """The answers as table rows, with the columns of `columns`."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :top_k]
        label_sets = self.label_sets if self.thresholds else []
        for index, code in enumerate(self.status):
            width, height = self.sizes[index] or (None, None)
            row: dict[str, Any] = {"path": self.paths[index], "status": code, "message": self.messages[index]}
            if label_sets:
                labels = label_sets[index]
                row["labels"] = None if labels is None else list(labels)
            for rank in range(order.shape[1]):
                column = order[index, rank]
                row[_ranked("label", rank)] = self.class_names[column] if code == OK else None
                row[_ranked("probability", rank)] = _short(self.probabilities[index, column]) if code == OK else None
            row |= {"width": width, "height": height}
            if all_probabilities:
                row["probabilities"] = [*map(_short, self.probabilities[index])] if code == OK else None
            if self.features is not None:
                row["features"] = [*map(_short, self.features[index])] if code == OK else None
            yield row


def columns(
    class_names: Sequence[str],
    top_k: int = 1,
    *,
    multi_label: bool = False,
    all_probabilities: bool = False,
    features: bool = False,
) -> dict[str, str]:
    """Names and types of the columns of `Predictions.rows`.

    Returns:
        A dict of column name to `"string"`, `"float"`, `"integer"`, `"strings"` or `"floats"`, in order. The best class
        has `label` and `probability`, the next `label_2` and `probability_2`, and so on. `labels` of a multi-label
        model are the classes that reach their thresholds.
    """
    ranked = {
        _ranked(name, rank): kind
        for rank in range(min(top_k, len(class_names)))
        for name, kind in (("label", "string"), ("probability", "float"))
    }
    table = {"path": "string", "status": "string", "message": "string"}
    if multi_label:
        table["labels"] = "strings"
    table |= ranked | {"width": "integer", "height": "integer"}
    if all_probabilities:
        table["probabilities"] = "floats"
    if features:
        table["features"] = "floats"
    return table


def _short(value: np.float32) -> float:
    """The seven digits that a float32 holds, not the seventeen of the float64 nearest to it."""
    return float(f"{value:.7g}")


def _judge(image: DecodedImage | ImageError, answered: bool) -> tuple[str, str, tuple[int, int] | None]:
    """Status, message and size of an image."""
    if isinstance(image, ImageError):
        return image.code, str(image), None
    size = (image.width, image.height)
    if not answered:
        return NOT_FINITE, "the model's answer is not a number", size
    return OK, "animated: the first frame was taken" if image.animated else "", size


def _concatenate_features(batches: Sequence[Predictions]) -> NDArray[np.float32] | None:
    """Features of all batches; a batch without one good image does not know their width."""
    known = [batch.features for batch in batches if batch.features is not None]
    if not known:
        return None
    width = known[0].shape[1]
    parts = [
        batch.features if batch.features is not None else np.full((len(batch), width), np.nan, np.float32)
        for batch in batches
    ]
    return np.concatenate(parts)


def _ranked(name: str, rank: int) -> str:
    return name if rank == 0 else f"{name}_{rank + 1}"
