"""The schedule at work on a model: which stage it is in, when the next begins, and what that changes."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import keras
import numpy as np

from kerasxfer import keras_internals as internals
from kerasxfer.stages import ScheduleError, Stage
from kerasxfer.unfreezing.rates import check_rates, number_for, rate_function
from kerasxfer.unfreezing.resolve import ResolvedStage, flags_of, resolve, set_flags, union
from kerasxfer.unfreezing.state import Saved, State


class Engine:
    """Takes a model through the stages of a schedule. `ProgressiveUnfreezing` drives it inside `fit`.

    The optimizer is built once, on every variable that some stage trains, and then sees those of the present stage
    only. So what it knows of a variable outlives every transition, on every backend.

    Args:
        model: a compiled and built `keras.Model`.
        stages: the schedule.
        steps_per_epoch: batches in an epoch; needed where a stage has a warm-up.

    Raises:
        ScheduleError: if the schedule does not fit the model or its optimizer.

    Example:

    >>> import keras, numpy, kerasxfer
    >>> from kerasxfer.unfreezing import Engine
    >>> model = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="low"),
    ...     keras.layers.MaxPooling2D(), keras.layers.Conv2D(4, 3, name="high"), keras.layers.Flatten(),
    ...     keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.Adam(1e-3), "mse")
    >>> engine = Engine(model, [kerasxfer.Stage(epochs=1), kerasxfer.Stage(1, learning_rate=1e-4, epochs=1)])
    >>> engine.start()
    >>> x, y = numpy.ones((4, 8, 8, 3)), numpy.ones((4, 1))
    >>> while not engine.finished:
    ...     logs = model.train_on_batch(x, y, return_dict=True)
    ...     if engine.advance(logs):
    ...         engine.enter()
    >>> engine.current.blocks
    ('block2',)
    """

    def __init__(self, model: Any, stages: Sequence[Stage], steps_per_epoch: int | None = None) -> None:
        if getattr(model, "optimizer", None) is None:
            raise ScheduleError(
                f"`model` must be compiled with an optimizer. Received: model={model.name!r}, not compiled. "
                "Call `model.compile(optimizer, loss)` first."
            )
        self.model = model
        self.optimizer = model.optimizer
        self.steps_per_epoch = steps_per_epoch
        self.resolved = resolve(stages, model)
        self.variables = union(self.resolved, model)
        self.pending_logs: Callable[[], Mapping[str, float]] = dict
        self._runner = model
        self._traced: Any = None
        self._best_weights: list[np.ndarray] = []
        before, known = internals.attachment(self.optimizer), internals.built_on(self.optimizer)
        self._attachment = internals.build_on(self.optimizer, self.variables)
        self._state = self._taken_over(before.state if before else None, known)
        check_rates(stages, self._state.compiled_rates)
        self._attachment.store = lambda: self._saved().pack()
        self._attachment.state = self._state
        internals.look_at(self.optimizer, model.trainable_variables)

    def _taken_over(self, before: State | None, known: Sequence[Any]) -> State:
        """A state with what an earlier schedule, or a `fit` without one, did to the optimizer."""
        if before is not None:
            rates, late, frozen = before.compiled_rates, before.late, before.frozen
        else:
            used = any(internals.iterations(self.optimizer))
            rates, late = internals.compiled_rates(self.optimizer), [0 if used else None] * len(known)
            frozen = [None] * len(known)
        position = {id(variable): i for i, variable in enumerate(known)}
        places = [position.get(id(variable)) for variable in self.variables]
        state = replace(before) if before is not None and before.stage < len(self.resolved) else State()
        state.compiled_rates = list(rates)
        state.late = [None if i is None else late[i] for i in places]
        state.frozen = [None if i is None else frozen[i] for i in places]
        return state

    # What is the case

    @property
    def current(self) -> ResolvedStage:
        """The stage the model is in; before `start` the first."""
        return self.resolved[max(self._state.entered, 0)]

    @property
    def finished(self) -> bool:
        """Whether the last stage is over."""
        return self._state.finished

    @property
    def epoch(self) -> int:
        """The next epoch to run."""
        return self._state.epoch

    @property
    def state(self) -> dict[str, Any]:
        """Where the schedule stands, as a dictionary of plain values (and of arrays, under `restore_best`).

        Setting it takes the model there. Weights and the optimizer's slots are no part of it; a checkpoint that holds
        those (`model.save_weights`, `BackupAndRestore`, `.keras`) holds this state as well.
        """
        return {**asdict(self._state), "best_weights": list(self._best_weights)}

    @state.setter
    def state(self, values: Mapping[str, Any]) -> None:
        plain = {key: value for key, value in values.items() if key != "best_weights"}
        self._take(State(**plain), values.get("best_weights", ()))
        self._apply(max(self._state.entered, 0))

    @property
    def resume_epoch(self) -> int:
        """The epoch that a loaded checkpoint, or the present state, goes on with."""
        if not self._attachment.loaded:
            return self._state.epoch
        saved = Saved.unpack(self._attachment.loaded)
        # Validation metrics are there when the epoch is over, though this schedule had not been told yet.
        return saved.state.epoch + any(key.startswith("val_") for key in saved.logs)

    def describe(self) -> str:
        """The present stage in a line."""
        one, total = self.current, sum(math.prod(weight.shape) for weight in self.model.weights)
        rates = [value for key, value in self.log().items() if key.startswith("learning_rate")]
        return (
            f"stage {one.index + 1} of {len(self.resolved)}, {one.name!r}: {one.parameters:,} of {total:,} parameters "
            f"train, BatchNormalization of the backbone: {one.batch_norm}, learning rate "
            + " … ".join(f"{rate:.3g}" for rate in dict.fromkeys((max(rates), min(rates))))
        )

    def check_length(self, epochs: int | None) -> None:
        """Refuses an `epochs` of `fit` that cannot hold the schedule.

        Args:
            epochs: the number of the last epoch; `None` if nobody knows.
        """
        least = sum(one.stage.least_epochs for one in self.resolved)
        if epochs is not None and epochs < least:
            lengths = ", ".join(f"{one.name!r} {one.stage.least_epochs}" for one in self.resolved)
            raise ScheduleError(
                f"`epochs` must be at least {least} for this schedule, whose stages last at least: {lengths}. "
                f"Received: epochs={epochs}"
            )

    def log(self) -> dict[str, float]:
        """What the stage adds to the epoch's logs.

        Returns:
            `stage` (counted from 1), `trainable_params`, `learning_rate`, and with `layer_decay` a
            `learning_rate_<block>` for each block that trains.
        """
        members = internals.stepping(self.optimizer)
        rates = [float(keras.ops.convert_to_numpy(member.learning_rate)) for member in members]
        names = ["learning_rate"] if len(members) == 1 else [f"learning_rate_{member.name}" for member in members]
        blocks = self.current.shares if self.current.stage.layer_decay is not None else {}
        return {
            "stage": float(self.current.index + 1),
            "trainable_params": float(self.current.parameters),
            **dict(zip(names, rates, strict=True)),
            **{f"learning_rate_{block}": rates[0] * share for block, share in blocks.items()},
        }

    # The way through the schedule

    def start(self, epoch: int = 0) -> None:
        """Puts the model into the stage of an epoch.

        Goes on where a checkpoint that has been loaded, or an earlier `fit` with the same optimizer, left off, if that
        is before this epoch. Else the stages before are taken to have lasted as long as their `epochs`.

        Args:
            epoch: the epoch that is about to begin, from 0.

        Raises:
            ScheduleError: if that stage cannot be known, or the schedule is over.
        """
        saved = self._loaded()
        if saved is not None:
            self._take(saved.state, saved.best_weights)
            for variable, seed in zip(self._seeds(), saved.seeds, strict=False):
                variable.assign(seed)
        going_on = saved is not None or epoch > 0
        if going_on and self._state.entered >= 0 and epoch - self._state.epoch in (0, 1):
            self._apply(self._state.entered)
            if epoch > self._state.epoch:  # saved at the end of an epoch, by a callback that came first
                self.advance(saved.logs if saved is not None else {})
        else:
            self._rewind(epoch)
        self.enter()

    def advance(self, logs: Mapping[str, Any]) -> bool:
        """Takes in the results of an epoch; to be called at the end of each.

        Args:
            logs: the epoch's logs, with the monitor of the stage.

        Returns:
            Whether the stage is over: `enter()` begins the next, unless the schedule is `finished`.
        """
        state, stage = self._state, self.resolved[self._state.stage].stage
        state.epoch, state.epochs = state.epoch + 1, state.epochs + 1
        if stage.watches and state.observe(_monitored(stage, logs), stage.rising, stage.min_delta):
            self._best_weights = [_array(v) for v in self._restorable()] if stage.restore_best else []
        out_of_patience = stage.patience is not None and state.wait >= stage.patience
        if out_of_patience or state.epochs == stage.epochs:
            state.move_on(last=len(self.resolved) - 1)
            return True
        return False

    def enter(self) -> bool:
        """Performs the transition that is due, if there is one. What fails leaves the model in the stage before.

        Returns:
            Whether there was one.
        """
        if self._state.entered == self._state.stage:
            return False
        internals.synchronise(self._runner)
        undo = self._snapshot()
        try:
            self.restore_best()
            self._begin(self.resolved[self._state.stage])
            self._apply(self._state.stage)
        except BaseException:
            undo()
            raise
        self._state.entered = self._state.stage
        return True

    def restore_best(self) -> None:
        """Gives the model the weights of the best epoch of its stage, where the stage says so; done by `enter` too."""
        for variable, value in zip(self._restorable() if self._best_weights else (), self._best_weights, strict=True):
            variable.assign(value)
        if self._best_weights:
            internals.seed_averages(self.optimizer, self.current.variables)
        self._best_weights = []

    def use(self, model: Any) -> None:
        """Lets another model on the same variables train with the optimizer, in the stage the engine is in.

        Args:
            model: a compiled model that has the stage's trainable variables, such as the trainable end of the
                engine's own; or that one again.

        Raises:
            ScheduleError: if its trainable variables are not those of the stage.
        """
        own, other = {id(v) for v in self.current.variables}, {id(v) for v in model.trainable_variables}
        if own != other or model.optimizer is not self.optimizer:
            missing = [v.path for v in self.current.variables if id(v) not in other]
            extra = [v.path for v in model.trainable_variables if id(v) not in own]
            raise ScheduleError(
                "`model` must be compiled with the engine's optimizer and have the stage's trainable variables. "
                f"Received: model={model.name!r}, without {missing}, with {extra} besides."
            )
        self._runner, self._traced = model, None
        self._apply(max(self._state.entered, 0))

    # How

    def _take(self, state: State, best_weights: Sequence[np.ndarray]) -> None:
        if len(state.late) != len(self.variables) or state.stage >= len(self.resolved):
            raise ScheduleError(
                f"The checkpoint was written under another schedule: it knows {len(state.late)} variables, this "
                f"schedule {len(self.variables)}. Train under the schedule it was written with, or delete it."
            )
        self._state = self._attachment.state = state
        self._best_weights = list(best_weights)

    def _saved(self) -> Saved:
        return Saved(self._state, self.pending_logs(), self._best_weights, [_array(v) for v in self._seeds()])

    def _seeds(self) -> list[Any]:
        weights = {id(weight) for weight in self.model.weights}
        return [variable for variable in self.model.variables if id(variable) not in weights]

    def _loaded(self) -> Saved | None:
        arrays, self._attachment.loaded = self._attachment.loaded, {}
        return Saved.unpack(arrays) if "schedule" in arrays else None

    def _rewind(self, epoch: int) -> None:
        """The state at the beginning of an epoch, by the `epochs` of the stages before."""
        left = epoch
        for one in self.resolved:
            if left < (one.stage.epochs or math.inf):
                break
            left -= one.stage.epochs or 0
        if left and (one.stage.epochs is None and one.stage.patience is not None):
            raise ScheduleError(
                f"Training cannot begin at epoch {epoch + 1}: stage {one.index + 1} ({one.name!r}) ends by plateau, so "
                "nothing says how long it lasted. Resume with `BackupAndRestore` or `ProgressiveUnfreezing.load_model`."
            )
        if left >= (one.stage.epochs or math.inf):
            raise ScheduleError(f"Training cannot begin at epoch {epoch + 1}: the schedule is over by then.")
        kept = {key: getattr(self._state, key) for key in ("compiled_rates", "late", "frozen")}
        self._state = self._attachment.state = State(stage=one.index, epoch=epoch, epochs=left, **kept)
        self._best_weights = []

    def _begin(self, one: ResolvedStage) -> None:
        """The clocks and rates of a stage that begins now."""
        state, now = self._state, internals.iterations(self.optimizer)
        state.start = now
        fresh = self._set_clocks({id(variable) for variable in one.variables})
        internals.seed_averages(self.optimizer, fresh)
        if one.stage.learning_rate is not None:
            state.rate_stage, state.rate_start = one.index, now
        for member, compiled in zip(internals.stepping(self.optimizer), state.compiled_rates, strict=True):
            number = number_for(one.stage, compiled)
            if number is not None and compiled is not None:
                member.learning_rate = number

    def _set_clocks(self, active: set[int]) -> list[Any]:
        """Notes who begins and who stops to train; returns those that have never trained and come late."""
        late, frozen = list(self._state.late), list(self._state.frozen)
        fresh = []
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
        self._state.late, self._state.frozen = late, frozen
        return fresh

    def _apply(self, index: int) -> None:
        """Makes flags, optimizer and train function those of a stage."""
        one = self.resolved[index]
        set_flags(one.flags)
        order = self._runner.trainable_variables
        same = {id(variable) for variable in order} == {id(variable) for variable in one.variables}
        internals.look_at(self.optimizer, order if same else one.variables)
        traced = ([id(v) for v in one.variables], [flag for _, flag in one.flags], self._set_seams(one))
        if traced != self._traced:
            internals.remake_functions(self._runner)
            self._traced = traced

    def _set_seams(self, one: ResolvedStage) -> list[Any]:
        """How each optimizer steps in a stage; returns what of that is fixed in a trace."""
        warmup = self._warmup_steps(one.stage)
        missed = dict(zip(map(id, self.variables), self._state.late, strict=True))
        late = [(variable, missed[id(variable)] or 0) for variable in one.variables]
        factors = list(zip(one.variables, one.factors, strict=True))
        stages = [each.stage for each in self.resolved]
        fixed: list[Any] = [one.factors, [steps for _, steps in late]]
        for member, seam in enumerate(self._attachment.seams):
            settable = self._state.compiled_rates[member] is not None
            rate, key = rate_function(stages, self._state, member, settable, warmup)
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

    def _restorable(self) -> list[Any]:
        """The weights that the stage can change, statistics of training layers included."""
        return list({id(w): w for layer in self.current.layers for w in layer.weights}.values())

    def _snapshot(self) -> Callable[[], None]:
        state, flags, seen = asdict(self._state), flags_of(self.model), internals.looked_at(self.optimizer)
        seams = [seam.settings for seam in self._attachment.seams]
        rates = internals.compiled_rates(self.optimizer)

        def undo() -> None:
            self._state = self._attachment.state = State(**state)
            set_flags(flags)
            internals.look_at(self.optimizer, seen)
            for seam, settings in zip(self._attachment.seams, seams, strict=True):
                seam.settings = settings
            for member, rate in zip(internals.stepping(self.optimizer), rates, strict=True):
                if rate is not None:
                    member.learning_rate = rate

        return undo


class Segment(keras.callbacks.Callback):
    """Runs one stage in a `fit` of its own, which ends with the stage: for a model made for that stage alone.

    Args:
        engine: an engine that has entered the stage, and uses the model that is fitted.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        logs.update(self.engine.log())
        if self.engine.advance(logs):
            self.model.stop_training = True


def _monitored(stage: Stage, logs: Mapping[str, Any]) -> float | None:
    value = logs.get(str(stage.monitor))
    if value is None:
        warnings.warn(
            f"Stage {stage.name!r} watches `{stage.monitor}`, which is not in the logs. "
            f"Available: {', '.join(sorted(logs)) or 'nothing'}. Name one of them as `monitor`, pass "
            "`validation_data`, or place the callback that logs it first.",
            stacklevel=2,
        )
    return None if value is None else float(value)


def _array(variable: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable))
