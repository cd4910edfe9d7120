"""What the name of a log stands for: which way the metric is better, and whether anything is measured at all."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

import keras

from kerasxfer.keras_internals import declared_metrics, metric_direction

Direction = Literal["min", "max"]

# Numbers that callbacks put into the logs to say what they did.
_BOOKKEEPING = frozenset({"epoch", "batch", "stage", "trainable_params", "lr", "learning_rate"})
_RATE_OF_A_BLOCK = "learning_rate_"

# Keras's own names, long and short, for where there is no metric to be asked. They stand for themselves alone: what
# merely ends like one of them (`inverse_recall`) is another metric.
_RISING = """
acc accuracy binary_accuracy categorical_accuracy sparse_categorical_accuracy
top_k_categorical_accuracy sparse_top_k_categorical_accuracy
auc precision recall f1 f1_score fbeta_score r2_score cosine_similarity
iou io_u binary_io_u mean_io_u one_hot_io_u one_hot_mean_io_u
pearson_correlation concordance_correlation true_positives true_negatives
sensitivity_at_specificity specificity_at_sensitivity precision_at_recall recall_at_precision
"""
_FALLING = """
loss mse mae mape msle hinge squared_hinge categorical_hinge kl_divergence poisson logcosh log_cosh_error
mean_squared_error mean_absolute_error mean_absolute_percentage_error mean_squared_logarithmic_error
root_mean_squared_error binary_crossentropy categorical_crossentropy sparse_categorical_crossentropy
false_positives false_negatives
"""
_DIRECTIONS: dict[str, Direction] = {
    **dict.fromkeys(_RISING.split(), "max"),
    **dict.fromkeys(_FALLING.split(), "min"),
}
_RISING_COUNTS = (keras.metrics.TruePositives, keras.metrics.TrueNegatives)
_FALLING_COUNTS = (keras.metrics.FalsePositives, keras.metrics.FalseNegatives)


def is_bookkeeping(name: str, measured: Collection[str] = ()) -> bool:
    """Whether a log says what a callback did, instead of what was measured.

    Args:
        name: The log's name.
        measured: Names of metrics that are known to be such. Defaults to none.
    """
    return name in _BOOKKEEPING or (name.startswith(_RATE_OF_A_BLOCK) and name not in measured)


def direction(name: str, model: keras.Model = None, outputs: Collection[str] = ()) -> Direction | None:
    """Which way a metric improves.

    The metric of the compiled model decides. Where there is none of that name, or it does not say, a name that Keras
    gives to its own metrics does.

    Args:
        name: The log's name; `val_` and `smoothed_` in front do not count.
        model: The compiled model. Defaults to `None`, names alone.
        outputs: Names of the model's outputs, which Keras puts before those of their metrics. Defaults to the model's.

    Returns:
        `"min"`, `"max"`, or `None` where it is not known.
    """
    names = _bare_names(name, outputs or getattr(model, "output_names", None) or ())
    if "loss" in names:
        return "min"
    metrics = [*single_metrics(getattr(model, "metrics", ())), *declared_metrics(model)]
    asked = {_direction_of(metric) for metric in metrics if metric.name in names}
    if asked - {None}:
        return asked.pop() if len(asked) == 1 else None
    return next((_DIRECTIONS[name] for name in names if name in _DIRECTIONS), None)


def single_metrics(metrics: Iterable[Any]) -> Iterator[Any]:
    """Every metric of a compiled model, taken out of the containers that Keras wraps them in."""
    for metric in metrics:
        inner = getattr(metric, "metrics", None)
        if inner:
            yield from single_metrics(inner)
        else:
            yield metric


def _bare_names(name: str, outputs: Iterable[str]) -> set[str]:
    """The name of the metric itself, with and without that of an output before it."""
    name = name.removeprefix("smoothed_").removeprefix("val_")
    return {name, *(name.removeprefix(f"{output}_") for output in outputs)}


def _direction_of(metric: keras.Metric) -> Direction | None:
    if isinstance(metric, _RISING_COUNTS):
        return "max"
    if isinstance(metric, _FALLING_COUNTS):
        return "min"
    said = metric_direction(metric)
    return None if said is None else "max" if said == "up" else "min"
