"""What a callback cannot learn from Keras's public interface."""

import inspect
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


def metrics_so_far(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """The results of the metrics of a callback's model. `callback.model` would synchronise all of the state on JAX."""
    results: dict[str, Any] = callback._model.get_metrics_result()
    return results


def metric_direction(metric: keras.Metric) -> str | None:
    """`"up"` or `"down"` where a metric of Keras, or one made like them, says which way is better."""
    direction = getattr(metric, "_direction", None)
    return direction if direction in ("up", "down") else None


def declared_metrics(model: keras.Model) -> list[Any]:
    """The metric objects that a model was compiled with. `model.metrics` lacks them until the first batch was seen."""
    compiled = getattr(model, "_compile_metrics", None)
    declared = [getattr(compiled, name, None) for name in ("_user_metrics", "_user_weighted_metrics")]
    return [metric for metric in keras.tree.flatten(declared) if isinstance(metric, keras.metrics.Metric)]
