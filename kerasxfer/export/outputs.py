"""What a classifier's outputs mean: read off the model, off what it was compiled with, or said. Never off a name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasxfer.export.errors import ExportError
from kerasxfer.keras_internals.models import graph_parents, graph_units

Array = NDArray[Any]

OUTPUT_KINDS = ("softmax", "sigmoid", "logits")

_LOSSES = {
    **dict.fromkeys(("CategoricalCrossentropy", "SparseCategoricalCrossentropy"), "softmax"),
    **dict.fromkeys(("categorical_crossentropy", "sparse_categorical_crossentropy"), "softmax"),
    **dict.fromkeys(("CategoricalFocalCrossentropy", "categorical_focal_crossentropy"), "softmax"),
    **dict.fromkeys(("BinaryCrossentropy", "binary_crossentropy"), "sigmoid"),
    **dict.fromkeys(("BinaryFocalCrossentropy", "binary_focal_crossentropy"), "sigmoid"),
}
_ACTIVATIONS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.linear: "linear",
    keras.activations.log_softmax: "log_softmax",
}
_OPERATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "log_softmax"}
# These pass on what they are given, in another shape or type.
_PASSING = ("Cast", "Dropout", "ExpandDims", "Flatten", "Identity", "Reshape", "Squeeze")


@dataclass(frozen=True)
class Output:
    """What a model's outputs are.

    Args:
        activation: `"softmax"` or `"sigmoid"`: what the probabilities are.
        raw: Whether the model leaves the activation to whoever reads its outputs.
        inferred: How this is known where nobody said it, as a sentence, or `None`.
        assumed: Whether nothing in the model says so.
    """

    activation: str
    raw: bool = False
    inferred: str | None = None
    assumed: bool = False

    def probabilities(self, outputs: Array) -> Array:
        """A model's outputs `[n, columns]` as probabilities.

        Raises:
            ExportError: If the outputs are not what they are taken for.
        """
        if self.raw:
            return _softmax(outputs) if self.activation == "softmax" else (1 + np.tanh(outputs / 2)) / 2
        if looks_like(outputs) not in (self.activation, "softmax"):
            raise ExportError(
                f"The model's outputs are not {self.activation} probabilities. Received: values from "
                f"{outputs.min():.4g} to {outputs.max():.4g}, rows that sum to {outputs.sum(axis=1).min():.4g} to "
                f"{outputs.sum(axis=1).max():.4g}. Say what they are: `output='softmax'`, 'sigmoid' or 'logits' "
                "(`--output`)."
            )
        return outputs


def read_output(
    model: keras.Model, loss: Any, outputs: Array, said: str | None = None, *, multi_label: bool = False
) -> Output:
    """Decide what a model's outputs mean.

    Args:
        model: The classifier.
        loss: What it was compiled with, as an object, a name or Keras's configuration of it; `None` where unknown.
        outputs: The model's own outputs on a few images, `[n, columns]`.
        said: `"softmax"`, `"sigmoid"` or `"logits"`, as the user says. Defaults to `None`.
        multi_label: Whether any number of classes may fit an image, so that a sigmoid belongs to each. Defaults to
            `False`.

    Returns:
        An `Output`.

    Raises:
        ExportError: If what is said contradicts the model's last activation.
    """
    last = last_activation(model)
    if multi_label:
        if "softmax" in (last, said):
            raise ExportError("`multi_label=True` needs one sigmoid per class. Received: a softmax over all of them.")
        said = "sigmoid"
    if last in ("softmax", "sigmoid"):
        if said not in (None, last):
            raise ExportError(f"`output` must be '{last}', the model's last activation. Received: output={said!r}")
        return Output(last)
    looks = looks_like(outputs)
    if last is None and said != "logits" and looks != "logits":
        return Output(
            said or looks,
            inferred=f"The model does not say what its outputs are. By their values they were taken for {looks}.",
            assumed=True,
        )
    return _raw_output(loss, outputs.shape[1], None if said == "logits" else said)


def _raw_output(loss: Any, columns: int, said: str | None) -> Output:
    if said:
        return Output(said, raw=True)
    raw = "The model gives scores, not probabilities"
    if compiled := activation_of_loss(loss):
        return Output(
            compiled, raw=True, inferred=f"{raw}: the file applies a {compiled}, by the loss it was compiled with."
        )
    if columns == 1:
        return Output("sigmoid", raw=True, inferred=f"{raw}: the file applies a sigmoid, as there is one column.")
    return Output(
        "softmax",
        raw=True,
        inferred=f"{raw}, and not of which kind: the file applies a softmax. For classes that do not exclude each "
        "other, say `output='sigmoid'` (`--output sigmoid`).",
        assumed=True,
    )


def activation_of_loss(loss: Any) -> str | None:
    """The activation that a loss belongs to, or `None` where that is not known.

    Args:
        loss: A loss, its name, Keras's configuration of one, or a list or dictionary with a single one.
    """
    if isinstance(loss, Mapping) and "class_name" in loss:
        name = loss["config"] if loss["class_name"] == "function" else loss["class_name"]
        return _LOSSES.get(str(name).rpartition(">")[2])
    if isinstance(loss, Mapping | list | tuple):
        losses = list(loss.values()) if isinstance(loss, Mapping) else list(loss)
        return activation_of_loss(losses[0]) if len(losses) == 1 else None
    if isinstance(loss, str):
        return _LOSSES.get(loss)
    return _LOSSES.get(getattr(loss, "__name__", type(loss).__name__))


def last_activation(model: keras.Model) -> str | None:
    """`"softmax"`, `"sigmoid"`, `"log_softmax"` or `"linear"`, by the operation that decides; `None` if unknown.

    What only reshapes or casts is followed back to what made the numbers.
    """
    unit: Any = model
    while hasattr(unit, "input_shape") and getattr(unit, "layers", None):  # a subclassed model has no `input_shape`
        unit = _deciding(unit)
    unit = getattr(unit, "predictions", unit)
    if (name := _OPERATIONS.get(type(unit).__name__)) is not None:
        return name
    return _ACTIVATIONS.get(getattr(unit, "activation", None))


def _deciding(model: keras.Model) -> Any:
    units, parents = graph_units(model), graph_parents(model)
    unit = units[-1]
    while _passes(unit) and len(parents[id(unit)]) == 1:
        (unit,) = parents[id(unit)]
    return unit


def _passes(unit: Any) -> bool:
    linear = isinstance(unit, keras.layers.Activation) and unit.activation is keras.activations.linear
    return linear or type(unit).__name__ in _PASSING


def looks_like(outputs: Array) -> str:
    """What outputs look like: rows that sum to one, values from 0 to 1, or neither (`"logits"`)."""
    if not np.all((outputs >= -1e-6) & (outputs <= 1 + 1e-6)):
        return "logits"
    return "softmax" if np.allclose(outputs.sum(axis=1), 1, atol=1e-3) and outputs.shape[1] > 1 else "sigmoid"


def _softmax(scores: Array) -> Array:
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))
