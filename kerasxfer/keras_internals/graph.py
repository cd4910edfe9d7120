"""Running through a functional model's graph, call by call."""

from collections.abc import Callable
from typing import Any

import keras

from kerasxfer.keras_internals.contract import GRAPH, requires
from kerasxfer.types import Tensor


@requires(GRAPH)
def run_graph(model: keras.Model, inputs: Tensor, call: Callable[..., Any]) -> Tensor:
    """Run a functional model on other tensors, every call made by `call(operation, *args, **kwargs)`.

    It is what `keras.models.clone_model(call_function=…)` does; that would also build and compile a new model, with new
    names refused where inlined layers' names clash.
    """
    # Keras 3.10 to 3.13 have no default for `operation_fn`.
    outputs = model._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=call)
    return outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs


def has_graph(layer: keras.Layer) -> bool:
    """Whether a layer is a model that does nothing but what its graph says."""
    if isinstance(layer, keras.Sequential):
        return bool(layer.built) and type(layer).call is keras.Sequential.call
    if not (isinstance(layer, keras.Model) and isinstance(layer, keras.Function)):
        return False
    functional: Any = next(cls for cls in type(layer).__mro__ if cls.__name__ == "Functional")
    return bool(type(layer).call is functional.call)
