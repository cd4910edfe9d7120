"""The slots of an optimizer, and which of its variables it sees."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src.saving.keras_saveable import KerasSaveable

from kerasxfer.keras_internals.contract import OPTIMIZER_STATE, OPTIMIZER_STEP, SAVERS, requires
from kerasxfer.keras_internals.step import StepSeam
from kerasxfer.types import Optimizer, Variable

_ATTACHED = "progressive_unfreezing"


@dataclass
class _Built:
    """One optimizer as it was built: on which variables, and its moving averages of them."""

    optimizer: Optimizer
    variables: list[Variable]
    averages: list[Variable] | None

    def index(self) -> dict[Any, int]:
        return {self.optimizer._var_key(variable): i for i, variable in enumerate(self.variables)}

    def slots(self) -> dict[str, list[Variable]]:
        """Lists with one entry for each variable the optimizer was built on: momenta, velocities, accumulators, …"""
        attributes = {
            name: _entries(value, self.variables)
            for name, value in vars(self.optimizer).items()
            if name not in ("_trainable_variables", "_variables", "_model_variables_moving_average")
        }
        found = {name: entries for name, entries in attributes.items() if entries is not None}
        return found if self.averages is None else {**found, "average": self.averages}

    def scalars(self) -> dict[str, Variable]:
        """Variables that belong to no single weight and are made by `build`: the loss scale, Nadam's product."""
        return {
            name: value
            for name, value in vars(self.optimizer).items()
            if isinstance(value, keras.Variable) and name not in ("_iterations", "_learning_rate")
        }


def _entries(value: Any, variables: Sequence[Variable]) -> list[Variable | None] | None:
    """What an optimizer's attribute holds for each of `variables`; `None` if it is not a slot."""
    entries = _by_path(value, variables) if isinstance(value, dict) else value
    if not isinstance(entries, list) or len(entries) != len(variables):
        return None
    return list(entries) if all(entry is None or isinstance(entry, keras.Variable) for entry in entries) else None


def _by_path(slot: dict[str, Variable], variables: Sequence[Variable]) -> list[Variable | None] | None:
    """The entries of a slot of Muon in Keras 3.10 to 3.12, a dictionary by the paths of the variables."""
    entries = [slot.get(variable.path) for variable in variables]
    return entries if any(entry is not None for entry in entries) else None


class Attachment(KerasSaveable):
    """What progressive unfreezing keeps on an optimizer: the variables it was built on, and the state of the schedule.

    Keras's savers walk over it, as over everything of their kind, so every checkpoint that holds the optimizer holds
    the schedule's state too, from the same moment. Loaders that do not know it pass it by.
    """

    def __init__(self, built: Sequence[_Built], seams: Sequence[StepSeam]) -> None:
        self._built = _Holder(built)
        self._seams = _Holder(seams)
        self.store: Callable[[], dict[str, np.ndarray]] = dict
        self.loaded: dict[str, np.ndarray] = {}
        self.state: Any = None

    @property
    def built(self) -> Iterator[_Built]:
        """The optimizer and those inside it, as they were built."""
        return iter(self._built.value)

    @property
    def seams(self) -> Iterator[StepSeam]:
        """One seam for each optimizer that takes steps."""
        return iter(self._seams.value)

    def _obj_type(self) -> str:
        return "Loss"  # the savers know a fixed list of kinds; of these a loss has the fewest attributes of its own

    def save_own_variables(self, store: Any) -> None:
        """Keras's hook."""
        for name, value in self.store().items():
            store[name] = value

    def load_own_variables(self, store: Any) -> None:
        """Keras's hook."""
        self.loaded = {name: np.array(store[name]) for name in list(store.keys())}


@dataclass(frozen=True)
class _Holder:
    """Keeps optimizers out of sight of the savers, which would store them a second time under this path."""

    value: Any


def attachment(optimizer: Optimizer) -> Attachment | None:
    """What an earlier `build_on` left on the optimizer."""
    return getattr(optimizer, _ATTACHED, None)


@requires(OPTIMIZER_STATE, OPTIMIZER_STEP, SAVERS)
def build_on(optimizer: Optimizer, variables: Sequence[Variable]) -> Attachment:
    """Builds an optimizer on `variables`, whatever it was built on before; the state of known variables is kept."""
    present = attachment(optimizer)
    before = list(present.built) if present else _built(optimizer)
    if present and [id(v) for v in before[0].variables] == [id(v) for v in variables]:
        return present
    values = {id(built.optimizer): (_slot_values(built), _values(built.scalars())) for built in before}
    for built in before:
        _forget(built.optimizer)
    with _strategy_scope(optimizer):
        optimizer.build(list(variables))
    after = _built(optimizer)
    for built in after:
        _restore(built, *values.get(id(built.optimizer), ({}, {})))
    seams = list(present.seams) if present else [StepSeam(member) for member in stepping(optimizer)]
    fresh = Attachment(after, seams)
    if present:
        fresh.store, fresh.loaded, fresh.state = present.store, present.loaded, present.state
    object.__setattr__(optimizer, _ATTACHED, fresh)
    return fresh


def set_active_variables(optimizer: Optimizer, active: Sequence[Variable]) -> None:
    """Lets an optimizer that was built on more see only the `active` variables, in that order."""
    held = attachment(optimizer)
    assert held is not None
    for built in held.built:
        index = built.index()
        mine = [(variable, index[key]) for variable in active if (key := built.optimizer._var_key(variable)) in index]
        # `object`'s own setter: Keras's would list these variables as the optimizer's, to be saved a second time.
        object.__setattr__(built.optimizer, "_trainable_variables", [variable for variable, _ in mine])
        object.__setattr__(
            built.optimizer, "_trainable_variables_indices", {built.optimizer._var_key(v): i for v, i in mine}
        )
        if built.averages is not None:
            averages = [built.averages[i] for _, i in mine]
            object.__setattr__(built.optimizer, "_model_variables_moving_average", averages)


def active_variables(optimizer: Optimizer) -> list[Variable]:
    """The variables that the optimizer sees now."""
    return list(optimizer._trainable_variables)


def built_on(optimizer: Optimizer) -> list[Variable]:
    """The variables that the optimizer has slots for."""
    held = attachment(optimizer)
    return next(held.built).variables if held else active_variables(optimizer)


def slots(optimizer: Optimizer) -> dict[tuple[str, str], Variable]:
    """Every slot of every variable, by the variable's path and the slot's name."""
    held = attachment(optimizer)
    return {
        (variable.path, name): values[i]
        for built in (held.built if held else _built(optimizer))
        for name, values in built.slots().items()
        for i, variable in enumerate(built.variables)
        if values[i] is not None
    }


def seed_averages(optimizer: Optimizer, variables: Sequence[Variable]) -> None:
    """Starts the moving averages of `variables` at their present values, not at zero."""
    held = attachment(optimizer)
    assert held is not None
    chosen = {id(variable) for variable in variables}
    for built in held.built:
        for variable, average in zip(built.variables, built.averages or (), strict=False):
            if id(variable) in chosen and average is not None:
                average.assign(np.array(keras.ops.convert_to_numpy(variable)))


def iterations(optimizer: Optimizer) -> list[int]:
    """Steps that each stepping optimizer has taken since it was made. Under accumulation every batch counts."""
    return [int(keras.ops.convert_to_numpy(member._iterations)) for member in stepping(optimizer)]


def clocks(optimizer: Optimizer, variables: Sequence[Variable]) -> list[int]:
    """For each variable the steps that its optimizer has taken."""
    held = attachment(optimizer)
    assert held is not None
    steps = dict(zip(map(id, stepping(optimizer)), iterations(optimizer), strict=True))
    own = [(built.variables, steps[id(built.optimizer)]) for built in held.built if id(built.optimizer) in steps]
    of = {id(variable): taken for known, taken in own for variable in known}
    return [of[id(variable)] for variable in variables]


def compiled_rates(optimizer: Optimizer) -> list[float | None]:
    """The learning rate of each stepping optimizer, `None` where it is a schedule or a callable."""
    rates = [member._learning_rate for member in stepping(optimizer)]
    return [float(keras.ops.convert_to_numpy(rate)) if isinstance(rate, keras.Variable) else None for rate in rates]


def stepping(optimizer: Optimizer) -> list[Optimizer]:
    """The optimizers that take the steps: the one inside a `LossScaleOptimizer`, all inside a `MultiOptimizer`."""
    return [member for member in _family(optimizer) if not _inner(member)]


def _inner(optimizer: Optimizer) -> list[Optimizer]:
    inner = getattr(optimizer, "inner_optimizer", None)
    return [inner] if inner is not None else list(getattr(optimizer, "optimizers", ()))


def _family(optimizer: Optimizer) -> list[Optimizer]:
    return [optimizer, *(member for inner in _inner(optimizer) for member in _family(inner))]


def _built(optimizer: Optimizer) -> list[_Built]:
    return [
        _Built(
            member,
            list(member._trainable_variables),
            list(member._model_variables_moving_average) if member.use_ema and member.built else None,
        )
        for member in _family(optimizer)
    ]


def _forget(optimizer: Optimizer) -> None:
    """Takes an optimizer back to before `build`."""
    made_by_init = {id(optimizer._iterations), id(optimizer._learning_rate)}
    for variable in list(optimizer._variables):
        if id(variable) not in made_by_init:
            optimizer._untrack_variable(variable)
    object.__setattr__(optimizer, "_trainable_variables", [])
    object.__setattr__(optimizer, "_trainable_variables_indices", {})
    optimizer.built = False


def _strategy_scope(optimizer: Optimizer) -> AbstractContextManager[Any]:
    """Where `tf.distribute` wants an optimizer's variables made: as those of the model, one for each replica."""
    if keras.config.backend() != "tensorflow":
        return nullcontext()
    import tensorflow as tf

    strategy = optimizer._distribution_strategy
    return nullcontext() if strategy is tf.distribute.get_strategy() else strategy.scope()


def _slot_values(built: _Built) -> dict[int, dict[str, np.ndarray]]:
    named = built.slots() if built.optimizer.built else {}
    return {
        id(variable): _values({name: values[i] for name, values in named.items() if values[i] is not None})
        for i, variable in enumerate(built.variables)
    }


def _values(variables: dict[str, Variable]) -> dict[str, np.ndarray]:
    # a copy: on PyTorch and TensorFlow the array may share the variable's memory
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in variables.items()}


def _restore(built: _Built, slots: dict[int, dict[str, np.ndarray]], scalars: dict[str, np.ndarray]) -> None:
    for name, values in built.slots().items():
        for variable, slot in zip(built.variables, values, strict=True):
            value = slots.get(id(variable), {}).get(name)
            if slot is not None and value is not None:
                slot.assign(value)
    for name, variable in built.scalars().items():
        if name in scalars:
            variable.assign(scalars[name])
