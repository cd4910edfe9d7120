"""The head that turns a backbone's features into class probabilities."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import keras
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.model.task import MULTI_LABEL, SEPARATOR, SINGLE_LABEL

from kerasxfer.types import Tensor

POOLINGS = {
    "average": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
    "flatten": keras.layers.Flatten,
}
_TOKEN_POOLINGS = {"average": keras.layers.GlobalAveragePooling1D, "max": keras.layers.GlobalMaxPooling1D}


@keras.saving.register_keras_serializable(package="kerasxfer")
class ClassifierHead(keras.layers.Layer):
    """Pooling, hidden layers with ReLU, dropout, and one probability per class.

    Dropout is applied once, before the last layer. With mixed precision, probabilities stay in `float32`.

    Args:
        classes: Number of classes, two or more.
        pooling: `"average"`, `"max"` or `"flatten"`. Defaults to `"average"`.
        hidden_units: Widths of the hidden layers. Defaults to `()`.
        dropout: Fraction of units dropped before the last layer, `0 <= dropout < 1`. Defaults to `0.0`.
        activation: `"softmax"`, one column per class, or, for two classes, `"sigmoid"`: one column, the probability of
            the second. Defaults to `None`: `"softmax"`, or `"sigmoid"` with `multi_label`.
        multi_label: Whether images have any number of labels: one sigmoid per class. Defaults to `False`, mutually
            exclusive classes.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to `keras.config.image_data_format()`.
        seed: Seed of the dropout. Defaults to `None`.
        class_names: Names of the classes, stored in the model's file. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, tokens, channels)` of a transformer, pooled over the tokens.

    Output shape:
        `(batch, classes)`, or `(batch, 1)` with `activation="sigmoid"` for two mutually exclusive classes.

    Raises:
        ValueError: If an argument is out of its range, or `activation="sigmoid"` with more than two mutually exclusive
            classes.

    Example:

    ```python
    import numpy as np
    from kerasxfer.layers import ClassifierHead

    head = ClassifierHead(3, pooling="flatten", hidden_units=(16,), dropout=0.5)
    assert head(np.ones((4, 2, 2, 8), "float32")).shape == (4, 3)
    ```
    """

    def __init__(
        self,
        classes: int,
        pooling: str = "average",
        hidden_units: Sequence[int] = (),
        dropout: float = 0.0,
        activation: str | None = None,
        data_format: str | None = None,
        seed: int | None = None,
        class_names: Sequence[str] | None = None,
        multi_label: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        activation = activation or ("sigmoid" if multi_label else "softmax")
        _validate(classes, pooling, hidden_units, dropout, activation, multi_label)
        self.classes = classes
        self.pooling = pooling
        self.hidden_units = tuple(hidden_units)
        self.dropout = dropout
        self.activation = activation
        self.data_format = data_format or keras.config.image_data_format()
        self.seed = seed
        self.multi_label = multi_label
        self.class_names = class_names
        self.pool = POOLINGS[pooling](data_format=self.data_format, dtype=self.dtype_policy, name="pool")
        self.hidden = [
            keras.layers.Dense(units, activation="relu", dtype=self.dtype_policy, name=f"hidden{number}")
            for number, units in enumerate(self.hidden_units, 1)
        ]
        self.drop = keras.layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy, name="dropout")
        columns = 1 if activation == "sigmoid" and not multi_label else classes
        self.predictions = keras.layers.Dense(columns, activation=activation, dtype="float32", name="predictions")

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, by column; `None` if the head does not know them."""
        return self._class_names

    @class_names.setter
    def class_names(self, names: Sequence[str] | None) -> None:
        if names is not None and len(names) != self.classes:
            raise UsageError(f"`class_names` must be {self.classes} names. Received: class_names={names!r:.200}")
        if self.multi_label and (parted := [name for name in names or () if SEPARATOR in str(name)]):
            raise UsageError(
                f"With `multi_label=True`, `class_names` have no {SEPARATOR!r} in them: it stands between labels of an "
                f"image. Received: {parted!r:.200}"
            )
        self._class_names = None if names is None else tuple(map(str, names))

    @classmethod
    def from_spec(cls, spec: str, classes: int, **kwargs: Any) -> Self:
        """Make a head from a short text, as the command line does.

        Args:
            spec: Pooling, then the hidden widths: `"average"`, `"max"`, `"flatten-256"`, `"average-256-128"`.
            classes: Number of classes.
            **kwargs: The other arguments of `ClassifierHead`.

        Raises:
            ValueError: If `spec` has another form.
        """
        pooling, *units = spec.split("-")
        if pooling not in POOLINGS or not all(text.isdecimal() and int(text) for text in units):
            raise UsageError(
                "`head` must be 'average', 'max' or 'flatten', then the widths of the hidden layers, as in "
                f"'flatten-256'. Received: head={spec!r}"
            )
        return cls(classes, pooling, [int(text) for text in units], **kwargs)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = tuple(input_shape)
        if len(shape) == 3 and self.pooling in _TOKEN_POOLINGS:
            self.pool = _TOKEN_POOLINGS[self.pooling](dtype=self.dtype_policy, name="pool")
        for layer in (self.pool, *self.hidden, self.drop, self.predictions):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, features: Tensor, training: bool | None = None) -> Tensor:
        x = self.pool(features)
        for layer in self.hidden:
            x = layer(x)
        return self.predictions(self.drop(x, training=training))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self.predictions.units)

    def compute_output_spec(self, features: Tensor, training: bool | None = None) -> keras.KerasTensor:
        return keras.KerasTensor(self.compute_output_shape(features.shape), dtype="float32")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        # In a `.h5` file, Keras takes "average" for its function of that name.
        pooling = getattr(config["pooling"], "__name__", config["pooling"])
        return super().from_config({**config, "pooling": pooling})  # type: ignore[no-any-return]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "classes": self.classes,
            "pooling": self.pooling,
            "hidden_units": list(self.hidden_units),
            "dropout": self.dropout,
            "activation": self.activation,
            "data_format": self.data_format,
            "seed": self.seed,
            "class_names": self.class_names and list(self.class_names),
            "multi_label": self.multi_label,
        }


def class_names_of(model: keras.Model) -> tuple[str, ...] | None:
    """The class names that a model carries in its `ClassifierHead`, or `None`."""
    return next((head.class_names for head in _heads(model) if head.class_names), None)


def task_of(model: keras.Model) -> str | None:
    """`"single_label"` or `"multi_label"`, as the `ClassifierHead` of a model says; `None` where it has none."""
    return next((MULTI_LABEL if head.multi_label else SINGLE_LABEL for head in _heads(model)), None)


def _heads(model: keras.Model) -> Iterator[ClassifierHead]:
    """The heads of a model and of those inside it, the last first."""
    for layer in reversed(model.layers):
        if isinstance(layer, ClassifierHead):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _heads(layer)


def _validate(
    classes: int, pooling: str, hidden_units: Sequence[int], dropout: float, activation: str, multi_label: bool
) -> None:
    if not isinstance(classes, int) or classes < 2:
        raise UsageError(f"`classes` must be an integer, 2 or more. Received: classes={classes!r}")
    if pooling not in POOLINGS:
        raise UsageError(f"`pooling` must be one of {', '.join(map(repr, POOLINGS))}. Received: pooling={pooling!r}")
    if any(not isinstance(units, int) or units < 1 for units in hidden_units):
        raise UsageError(f"`hidden_units` must be positive integers. Received: hidden_units={hidden_units!r}")
    if not 0 <= dropout < 1:
        raise UsageError(f"`dropout` must be at least 0 and less than 1. Received: dropout={dropout!r}")
    if activation not in ("softmax", "sigmoid"):
        raise UsageError(f"`activation` must be 'softmax' or 'sigmoid'. Received: activation={activation!r}")
    if multi_label and activation != "sigmoid":
        raise UsageError(f"`multi_label=True` needs one sigmoid per class. Received: activation={activation!r}")
    if activation == "sigmoid" and classes != 2 and not multi_label:
        raise UsageError(
            "`activation='sigmoid'` is one unit for two classes; use 'softmax' for more, or `multi_label=True` where "
            f"any number of them may fit. Received: activation='sigmoid', classes={classes}"
        )
