"""A model and its optimizer, put into the stages of a schedule."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras

from kerasxfer import keras_internals as internals
from kerasxfer.unfreezing.rates import number_for, rate_function
from kerasxfer.unfreezing.resolve import ResolvedStage, flags_of, set_flags, union
from kerasxfer.unfreezing.stages import ScheduleError, Stage
from kerasxfer.unfreezing.state import State


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
