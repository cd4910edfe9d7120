"""Where a schedule stands, the rates of its stages, and a model with its optimizer put into them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import keras
import numpy as np

from kerasxfer import keras_internals as internals
from kerasxfer.unfreezing.resolve import ResolvedStage, flags_of, set_flags, union
from kerasxfer.unfreezing.stages import ScheduleError, Stage

Rate = Callable[[Any, Any], Any]


@dataclass
class State:
    """Where a schedule stands; plain values only.

    Args:
        stage: The stage that is due, from 0.
        entered: The stage the model is in: before a transition the one before `stage`, before the first -1.
        epoch: The next epoch to run.
        epochs: How many epochs of the stage are over.
        best: The best value of the stage's monitor.
        wait: How many epochs ago that was.
        start: Each optimizer's iterations when the stage began.
        rate_stage: The stage that last set the learning rate, -1 for none.
        rate_start: Each optimizer's iterations when that stage began.
        compiled_rates: The rates the model was compiled with, for relative ones; `None` for one that is no number.
        late: For each variable of the schedule how many steps it missed; `None` while it has never trained.
        frozen: For each variable at which iteration it was frozen again; `None` if it is not.
        finished: Whether the last stage is over.
    """

    stage: int = 0
    entered: int = -1
    epoch: int = 0
    epochs: int = 0
    best: float | None = None
    wait: int = 0
    start: list[int] = field(default_factory=list)
    rate_stage: int = -1
    rate_start: list[int] = field(default_factory=list)
    compiled_rates: list[float | None] = field(default_factory=list)
    late: list[int | None] = field(default_factory=list)
    frozen: list[int | None] = field(default_factory=list)
    finished: bool = False

    def observe(self, value: float | None, rising: bool, min_delta: float) -> bool:
        """Takes in the monitor's value after an epoch.

        Returns:
            Whether it is the best of the stage.
        """
        better = value is not None and (
            (self.best is None and value == value)  # not NaN
            or (self.best is not None and (value - self.best if rising else self.best - value) > min_delta)
        )
        self.best, self.wait = (value, 0) if better else (self.best, self.wait + 1)
        return better

    def move_on(self, last: int) -> None:
        """Makes the next stage due, or ends the schedule after the `last`."""
        if self.stage == last:
            self.finished = True
        else:
            self.stage, self.epochs, self.best, self.wait = self.stage + 1, 0, None, 0


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds of a schedule: its state, the epoch's logs so far, and the best weights of the stage.

    And the states of the random generators of layers such as `Dropout`, which Keras leaves out of its checkpoints.
    """

    state: State
    logs: Mapping[str, float]
    best_weights: Sequence[np.ndarray]
    seeds: Sequence[np.ndarray]

    def pack(self) -> dict[str, np.ndarray]:
        """As arrays, which is what Keras's savers store."""
        text = json.dumps({"state": asdict(self.state), "logs": dict(self.logs)})
        best = {f"best_{i}": weights for i, weights in enumerate(self.best_weights)}
        seeds = {f"seed_{i}": seed for i, seed in enumerate(self.seeds)}
        return {"schedule": np.frombuffer(text.encode(), dtype="uint8"), **best, **seeds}

    @classmethod
    def unpack(cls, arrays: Mapping[str, np.ndarray]) -> "Saved":
        """From what `pack` gave."""
        values: dict[str, Any] = json.loads(bytes(arrays["schedule"]).decode())
        return cls(State(**values["state"]), values["logs"], _listed(arrays, "best"), _listed(arrays, "seed"))


def _listed(arrays: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
    count = sum(key.startswith(f"{name}_") for key in arrays)
    return [arrays[f"{name}_{i}"] for i in range(count)]


def check_rates(stages: Sequence[Stage], compiled_rates: Sequence[float | None]) -> None:
    """Refuses learning rates that the compiled optimizer cannot take.

    Args:
        stages: The schedule.
        compiled_rates: The rate of each optimizer that takes steps, `None` for one that is no number.

    Raises:
        ScheduleError: If a relative rate has no number to refer to, or an absolute one meets a `MultiOptimizer`.
    """
    for index, stage in enumerate(stages):
        rate = stage.learning_rate
        if stage.factor is not None and None in compiled_rates:
            raise ScheduleError(
                f"Stage {index + 1} ({stage.name!r}): a relative `learning_rate` needs a number to refer to, and the "
                f"model was compiled with a schedule object. Received: learning_rate={rate!r}. "
                "Compile with a number, or give the stage a number or a schedule of its own."
            )
        if rate is not None and stage.factor is None and len(compiled_rates) > 1:
            raise ScheduleError(
                f"Stage {index + 1} ({stage.name!r}): a `MultiOptimizer` has a rate for each of its optimizers, so "
                f'`learning_rate` must be relative, such as "0.1x". Received: learning_rate={rate!r}'
            )


def number_for(stage: Stage, compiled_rate: float | None) -> float | None:
    """The number that a stage sets, `None` if it sets none."""
    if stage.factor is not None and compiled_rate is not None:
        return stage.factor * compiled_rate
    return float(stage.learning_rate) if isinstance(stage.learning_rate, (int, float)) else None


def rate_function(
    stages: Sequence[Stage], state: State, member: int, settable: bool, warmup_steps: float
) -> tuple[Rate | None, Any]:
    """What a stage makes of an optimizer's learning rate, step by step.

    Args:
        stages: The schedule.
        state: Where it stands.
        member: Which of the optimizers.
        settable: Whether the optimizer's rate is a number, so that a stage's number has been assigned to it.
        warmup_steps: How many steps the warm-up of the present stage takes.

    Returns:
        A function from the optimizer's iterations and its own rate to the rate of the step, `None` where the rate is
        the optimizer's own; and a key that tells functions apart.
    """
    source = stages[state.rate_stage].learning_rate if state.rate_stage >= 0 else None
    since = state.rate_start[member] if state.rate_stage >= 0 else 0
    start = state.start[member]
    own = source is None or (settable and not callable(source))
    if own and not warmup_steps:
        return None, None

    def rate(iterations: Any, stock: Any) -> Any:
        value = stock if own else source(keras.ops.subtract(iterations, since)) if callable(source) else source
        if not warmup_steps:
            return value
        step = keras.ops.cast(keras.ops.subtract(iterations, start - 1), "float32")
        return value * keras.ops.minimum(step / warmup_steps, 1.0)

    return rate, (None if own else (state.rate_stage, since), (start, warmup_steps) if warmup_steps else None)


class Control:
    """Sets flags, optimizer and train function as a stage wants them.

    Args:
        model: A compiled and built `keras.Model`.
        resolved: The stages, resolved against it.
    """

    def __init__(self, model: keras.Model, resolved: Sequence[ResolvedStage]) -> None:
        self.model = model
        self.optimizer = model.optimizer
        self.resolved = resolved
        self.variables = union(resolved, model)
        self.steps_per_epoch: int | None = None
        self._traced: Any = None
        self.inherited = self._inherit()
        internals.set_active_variables(self.optimizer, model.trainable_variables)

    def _inherit(self) -> State:
        """Builds the optimizer; returns a state with what an earlier schedule, or a `fit` without one, did to it."""
        held, known = internals.attachment(self.optimizer), internals.built_on(self.optimizer)
        before = held.state if held is not None else None
        self.attachment = internals.build_on(self.optimizer, self.variables)
        if before is None:
            used = any(internals.iterations(self.optimizer))
            rates, late = internals.compiled_rates(self.optimizer), [0 if used else None] * len(known)
            before = State(compiled_rates=rates, late=late, frozen=[None] * len(known))
        position = {id(variable): i for i, variable in enumerate(known)}
        places = [position.get(id(variable)) for variable in self.variables]
        state = replace(before) if before.stage < len(self.resolved) else State(compiled_rates=before.compiled_rates)
        state.late = [None if i is None else before.late[i] for i in places]
        state.frozen = [None if i is None else before.frozen[i] for i in places]
        return state

    def begin(self, stage: ResolvedStage, state: State) -> None:
        """Sets the clocks and rates of a stage that begins now."""
        state.start = internals.iterations(self.optimizer)
        self.seed_averages(self._set_clocks(stage, state))
        if stage.stage.learning_rate is None:
            return
        state.rate_stage, state.rate_start = stage.index, state.start
        for member, compiled in zip(internals.stepping(self.optimizer), state.compiled_rates, strict=True):
            number = number_for(stage.stage, compiled)
            if number is not None and compiled is not None:
                member.learning_rate = number

    def apply(self, stage: ResolvedStage, state: State) -> None:
        """Makes flags, optimizer and train function those of a stage."""
        set_flags(stage.flags)
        order = self.model.trainable_variables
        same = {id(variable) for variable in order} == {id(variable) for variable in stage.variables}
        internals.set_active_variables(self.optimizer, order if same else stage.variables)
        traced = ([id(v) for v in stage.variables], [flag for _, flag in stage.flags], self._set_seams(stage, state))
        if traced != self._traced:
            internals.remake_functions(self.model)
            self._traced = traced

    def snapshot(self) -> Callable[[], None]:
        """Remembers how model and optimizer are set; returns what sets them so again."""
        internals.synchronise(self.model)
        flags, seen = flags_of(self.model), internals.active_variables(self.optimizer)
        seams = [seam.settings for seam in self.attachment.seams]
        rates = internals.compiled_rates(self.optimizer)

        def undo() -> None:
            set_flags(flags)
            internals.set_active_variables(self.optimizer, seen)
            for seam, settings in zip(self.attachment.seams, seams, strict=True):
                seam.settings = settings
            for member, rate in zip(internals.stepping(self.optimizer), rates, strict=True):
                if rate is not None:
                    member.learning_rate = rate

        return undo

    def seed_averages(self, variables: Sequence[Any]) -> None:
        """Starts the moving averages of variables at their present values."""
        internals.seed_averages(self.optimizer, variables)

    def seeds(self) -> list[Any]:
        """The states of the random generators of the model's layers."""
        weights = {id(weight) for weight in self.model.weights}
        return [variable for variable in self.model.variables if id(variable) not in weights]

    def _set_clocks(self, stage: ResolvedStage, state: State) -> list[Any]:
        """Notes who begins and who stops to train; returns those that have never trained and come late."""
        active = {id(variable) for variable in stage.variables}
        late, frozen, fresh = list(state.late), list(state.frozen), []
        for i, (variable, now) in enumerate(
            zip(self.variables, internals.clocks(self.optimizer, self.variables), strict=True)
        ):
            missed, stopped = late[i], frozen[i]
            if id(variable) not in active:
                frozen[i] = now if missed is not None and stopped is None else stopped
                continue
            late[i] = now if missed is None else missed + (now - stopped if stopped is not None else 0)
            frozen[i] = None
            if now and late[i] == now:
                fresh.append(variable)
        state.late, state.frozen = late, frozen
        return fresh

    def _set_seams(self, stage: ResolvedStage, state: State) -> list[Any]:
        """How each optimizer steps in a stage; returns what of that is fixed in a trace."""
        warmup = self._warmup_steps(stage.stage)
        missed = dict(zip(map(id, self.variables), state.late, strict=True))
        late = [(variable, missed[id(variable)] or 0) for variable in stage.variables]
        factors = list(zip(stage.variables, stage.factors, strict=True))
        stages = [each.stage for each in self.resolved]
        fixed: list[Any] = [stage.factors, [steps for _, steps in late]]
        for member, seam in enumerate(self.attachment.seams):
            settable = state.compiled_rates[member] is not None
            rate, key = rate_function(stages, state, member, settable, warmup)
            seam.set(rate, factors, late)
            fixed.append(key)
        return fixed

    def _warmup_steps(self, stage: Stage) -> float:
        if not stage.warmup:
            return 0
        if self.steps_per_epoch is None:
            raise ScheduleError(
                f"Stage {stage.name!r} has a `warmup`, which is measured in epochs, and the length of an epoch is not "
                "known. Pass `steps_per_epoch` to `fit` (or to `Engine`)."
            )
        return stage.warmup * self.steps_per_epoch
