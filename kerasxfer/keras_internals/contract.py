"""What kerasxfer relies on in Keras without Keras's promise, checked once on a release that nobody has tried.

On the releases of `TESTED` the tests have shown it, and nothing is checked.
"""

import functools
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import keras
import numpy as np
from keras.src.saving.keras_saveable import KerasSaveable
from kerasxfer_serving.errors import KerasxferError

TESTED = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class UnsupportedKerasError(KerasxferError, RuntimeError):
    """The installed Keras is none of those that were tested, and does otherwise than kerasxfer relies on."""


class Contract:
    """Something that Keras does and does not promise to go on doing.

    Args:
        rule: What Keras does, in a clause.
        holds: Tells whether it does. Runs in milliseconds, draws no random number, takes no layer's automatic name.
    """

    def __init__(self, rule: str, holds: Callable[[], bool]) -> None:
        self.rule = rule
        self._holds = holds

    def check(self) -> None:
        """Raise `UnsupportedKerasError` if Keras does something else."""
        try:
            if self._holds():
                return
            cause = None
        except Exception as error:  # whatever a changed private does when it is used as before
            cause = error
        raise UnsupportedKerasError(
            f"kerasxfer was tested with Keras {', '.join(TESTED)}. Keras {keras.__version__} is none of these and "
            f"does not do what kerasxfer relies on: {self.rule}. Install a release that works: "
            f"`pip install 'keras~={TESTED[-1]}.0'`, or a newer kerasxfer."
        ) from cause


def requires(*contracts: Contract) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorate a function that must not run unless Keras keeps these contracts."""

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @functools.wraps(function)
        def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            for contract in contracts:
                _check_once(contract)
            return function(*args, **kwargs)

        return checked

    return decorate


@functools.cache
def _check_once(contract: Contract) -> None:
    if _minor(keras.__version__) not in TESTED:
        contract.check()


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def _variable() -> Any:
    return keras.Variable(np.ones((1, 1), "float32"), name="contract")


def _optimizer_knows_its_variables() -> bool:
    optimizer, variable = keras.optimizers.Adam(0.1, use_ema=True, name="contract"), _variable()
    optimizer.build([variable])
    (momentum,), (velocity,), (average,) = (
        optimizer._momentums,
        optimizer._velocities,
        optimizer._model_variables_moving_average,
    )
    known = [optimizer._iterations, optimizer._learning_rate, momentum, velocity, average]
    seen = [optimizer._trainable_variables[0] is variable, optimizer._trainable_variables_indices]
    for each in known[2:]:
        optimizer._untrack_variable(each)
    left = {id(each) for each in optimizer._variables}
    return seen == [True, {optimizer._var_key(variable): 0}] and left == {id(each) for each in known[:2]}


def _optimizer_steps_through_three_methods() -> bool:
    optimizer, variable = keras.optimizers.SGD(0.1, weight_decay=0.1, name="contract"), _variable()
    expected = {
        "_get_current_learning_rate": [],
        "_backend_update_step": ["grads", "trainable_variables", "learning_rate"],
        "_apply_weight_decay": ["variables"],
    }
    found = {name: _parameters(getattr(optimizer, name)) for name in expected}
    called = set()
    for name in expected:
        object.__setattr__(optimizer, name, lambda *args, name=name: called.add(name))
    optimizer.build([variable])
    optimizer.apply([variable.value], [variable])
    return found == expected and called == set(expected)


class _Attached(KerasSaveable):
    """Counts how often the savers come by."""

    visits = 0

    def _obj_type(self) -> str:
        return "Loss"

    def save_own_variables(self, store: Any) -> None:
        self.visits += 1


def _savers_visit_what_is_attached() -> bool:
    layers = [keras.layers.Input((1,), name="input"), keras.layers.Activation("relu", name="layer")]
    model = keras.Sequential(layers, name="contract")
    model.compile(keras.optimizers.SGD(0.1, name="contract"))
    model.optimizer.build([_variable()])
    attached = _Attached()
    object.__setattr__(model.optimizer, "attached", attached)
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(Path(folder) / "model.weights.h5")
    return attached.visits == 1


def _graph_runs_call_by_call() -> bool:
    inputs = keras.layers.Input((1,), name="input")
    layer = keras.layers.Activation("relu", name="layer")
    model = keras.Model(inputs, layer(layer(inputs)), name="contract")
    calls = []

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(operation)
        return operation(*args, **kwargs)

    nodes = [node for level in model._nodes_by_depth.values() for node in level if node.operation is layer]
    parents = [parent.operation for node in layer._inbound_nodes for parent in node.parent_nodes]
    model._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=call)
    return calls == [layer, layer] and len(nodes) == 2 and parents == [model.operations[0], layer]


def _functions_can_be_made_anew() -> bool:
    makers = [getattr(keras.Model, f"make_{kind}_function") for kind in ("train", "test", "predict")]
    return all("force" in _parameters(make) for make in makers) and (
        keras.config.backend() != "jax" or _parameters(keras.Model.jax_state_sync) == ["self"]
    )


OPTIMIZER_STATE = Contract(
    "an optimizer keeps the variables it was built on in `_trainable_variables`, and each of its slots as a list",
    _optimizer_knows_its_variables,
)
OPTIMIZER_STEP = Contract(
    "an optimizer steps through `_get_current_learning_rate`, `_backend_update_step` and `_apply_weight_decay`",
    _optimizer_steps_through_three_methods,
)
SAVERS = Contract("savers visit every `KerasSaveable` attribute of an optimizer", _savers_visit_what_is_attached)
GRAPH = Contract(
    "a functional model lists its nodes in `_nodes_by_depth` and runs them in `_run_through_graph`",
    _graph_runs_call_by_call,
)
FUNCTIONS = Contract("`make_train_function(force=True)` traces a model's steps anew", _functions_can_be_made_anew)
