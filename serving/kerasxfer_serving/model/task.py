"""What a model says of an image: one of several classes, or every label that fits. And where a label begins to fit."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from kerasxfer_serving.errors import ModelError, UsageError

SINGLE_LABEL = "single_label"
MULTI_LABEL = "multi_label"
TASKS = (SINGLE_LABEL, MULTI_LABEL)

SEPARATOR = "|"
"""Stands between the labels of one image where they are one text, as in pandas's `Series.str.get_dummies`."""

DEFAULT_THRESHOLD = 0.5


def complete_thresholds(value: object, class_names: Sequence[str]) -> tuple[float, ...]:
    """A threshold for each class, checked.

    Args:
        value: One for each class, in their order, or none at all: then each is 0.5.
        class_names: The classes.

    Raises:
        ModelError: It is something else.
    """
    lengths = (0, len(class_names))
    if not isinstance(value, list | tuple) or not all(map(is_threshold, value)) or len(value) not in lengths:
        raise ModelError(
            f"`thresholds` are numbers from 0 to 1, one for each of the {len(class_names)} classes. "
            f"Received: {value!r:.200}"
        )
    return tuple(map(float, value)) or (DEFAULT_THRESHOLD,) * len(class_names)


def name_thresholds(
    given: float | Mapping[str, float], current: Sequence[float], class_names: Sequence[str]
) -> tuple[float, ...]:
    """The thresholds that somebody gives in place of a model's own.

    Args:
        given: One for all classes, or some by the names of their classes.
        current: The model's own.
        class_names: The classes.

    Raises:
        UsageError: One is not from 0 to 1, or there is no such class.
    """
    named = given if isinstance(given, Mapping) else dict.fromkeys(class_names, given)
    if unknown := sorted(set(named) - set(class_names)):
        raise UsageError(f"Thresholds are for classes of the model, {list(class_names)!r:.200}. Received: {unknown}")
    if wrong := [value for value in named.values() if not is_threshold(value)]:
        raise UsageError(f"A threshold is a number from 0 to 1. Received: {wrong[0]!r:.100}")
    return tuple(float(named.get(name, own)) for name, own in zip(class_names, current, strict=True))


def is_threshold(value: object) -> TypeGuard[float]:
    """Whether a value is a number from 0 to 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1
