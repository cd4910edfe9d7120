"""What a callback or a data set cannot learn from Keras of the fit that it is part of."""

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


def _begins_anew() -> bool:
    """Whether a data set's `on_epoch_end`, which calls this, is called because Keras is going to read from the start.

    Keras ends an epoch for two reasons: it has run, or its iterator is reset, after a model was built on a single batch
    and before an evaluation. The data set is told neither which, nor whether the next epoch goes on from here.
    """
    frame = inspect.currentframe()
    for _ in range(8):  # the data set's own frames, its adapter's, and who called that
        frame = frame.f_back if frame is not None else None
        if frame is not None and frame.f_globals.get("__name__", "").endswith(".epoch_iterator"):
            return frame.f_code.co_name == "reset"
    return False


class Passes:
    """Counts how often a data set was read as a whole.

    An epoch of Keras is no pass: with `steps_per_epoch` several make up one, and Keras also begins and ends an epoch to
    build a model on a single batch.
    """

    def __init__(self) -> None:
        self._served = 0

    def serve(self) -> None:
        """A batch is served."""
        self._served += 1

    def end_epoch(self, batches: int) -> bool:
        """To be called by the data set's `on_epoch_end`: returns whether a pass over that many batches is over."""
        given_up = _begins_anew()
        over = self._served >= batches and not given_up
        if over or given_up:
            self._served = 0
        return over
