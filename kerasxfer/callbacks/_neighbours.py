"""What a callback cannot learn from Keras's public interface: who else is in the list, and which way a metric improves.

`tests/kerasxfer/callbacks/test_smoothed_metrics_logger.py` holds this to what Keras does.
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import keras


def callbacks_of_this_fit() -> list[Any]:
    """The callbacks of the fit that is calling, in order; empty when there is no such fit.

    Keras hands a callback no reference to its list, so the list is looked for among the callers.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):
            return list(caller.callbacks)
        frame = frame.f_back
    return []


def monitored_names(callback: Any) -> list[str]:
    """The logs that a callback follows: its `monitor`, or `monitors` where there are several."""
    names = [getattr(callback, "monitor", None), *(getattr(callback, "monitors", None) or ())]
    return [name for name in names if isinstance(name, str)]


def single_metrics(metrics: Iterable[Any]) -> Iterator[Any]:
    """Every metric of a compiled model, taken out of the containers that Keras wraps them in."""
    for metric in metrics:
        inner = getattr(metric, "metrics", None)
        if inner:
            yield from single_metrics(inner)
        else:
            yield metric


def direction(name: str, metrics: Iterable[Any]) -> str | None:
    """`"min"` or `"max"` for a log, found as Keras's `mode="auto"` finds it; `None` where it cannot be told."""
    name = name.removeprefix("val_")
    if name == "loss":
        return "min"
    ways = {metric.name: getattr(metric, "_direction", None) for metric in single_metrics(metrics)}
    return {"up": "max", "down": "min"}.get(str(ways.get(name)))
