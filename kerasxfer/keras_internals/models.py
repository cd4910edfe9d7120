"""The graph of a model, and the functions it trains and tests with."""

from collections.abc import Callable
from typing import Any

import keras

from kerasxfer.keras_internals.contract import FUNCTIONS, GRAPH, requires
from kerasxfer.types import Tensor


def graph_units(model: keras.Model) -> list[Any]:
    """Layers, and operations between them, in an order in which each comes after its inputs."""
    return list(model.operations) if _is_graph(model) else list(model.layers)


@requires(GRAPH)
def graph_parents(model: keras.Model) -> dict[int, list[Any]]:
    """What each unit reads from, by `id`. Without a graph the layers are taken for a chain."""
    units = graph_units(model)
    if not _is_graph(model):
        return {id(unit): units[max(i - 1, 0) : i] for i, unit in enumerate(units)}
    inside = {id(unit) for unit in units}
    nodes = {id(node) for level in model._nodes_by_depth.values() for node in level}
    return {
        id(unit): [
            parent.operation
            for node in unit._inbound_nodes
            if id(node) in nodes
            for parent in node.parent_nodes
            if id(parent.operation) in inside
        ]
        for unit in units
    }


def sublayers(layer: keras.Layer) -> list[Any]:
    """The layers directly inside a layer."""
    return list(getattr(layer, "_layers", ()))


def all_layers(model: keras.Model) -> list[Any]:
    """A model and every layer inside it, at any depth."""
    return list(model._flatten_layers())


def _is_graph(model: keras.Model) -> bool:
    return hasattr(model, "operations") and hasattr(model, "_nodes_by_depth")


@requires(FUNCTIONS)
def remake_functions(model: keras.Model) -> None:
    """Has a model trace its steps anew, for what is trainable now."""
    model.make_train_function(force=True)
    backend = keras.config.backend()
    if backend == "jax":
        _record_shardings(model)
        # These were traced for one order of the variables, and the same shapes in another order fit the trace too.
        for make in (model.make_test_function, model.make_predict_function):
            make(force=True)
    elif backend == "torch" and model.jit_compile:
        import torch

        torch._dynamo.reset()


def _record_shardings(model: keras.Model) -> None:
    """On Keras 3.10 and 3.11, `fit` keeps a list of shardings in the order the variables had when it began."""
    if hasattr(model, "_record_training_state_sharding_spec"):
        model._record_training_state_sharding_spec()


def synchronise(model: keras.Model) -> None:
    """On JAX, gives the variables back the values that a running epoch holds outside them."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


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
