"""The schedule at work on a model: which stage it is in, when the next begins, and what that changes."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from kerasxfer import keras_internals as internals
from kerasxfer.metric_names import direction
from kerasxfer.unfreezing.control import Control, Saved, State, check_rates
from kerasxfer.unfreezing.resolve import ResolvedStage, resolve
from kerasxfer.unfreezing.stages import ScheduleError, Stage


class Engine:
    """Takes a model through the stages of a schedule. `ProgressiveUnfreezing` drives it inside `fit`.

    The optimizer is built once, on every variable that some stage trains, and then sees those of the present stage
    only. So what it knows of a variable outlives every transition, on every backend.

    Args:
        model: A compiled and built `keras.Model`.
        stages: The schedule.
        steps_per_epoch: Batches in an epoch; needed where a stage has a warm-up.

    Raises:
        ScheduleError: If the schedule does not fit the model or its optimizer.

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
    ...         entered = engine.enter()
    >>> engine.current.blocks
    ('block2',)
    """

    def __init__(self, model: keras.Model, stages: Sequence[Stage], steps_per_epoch: int | None = None) -> None:
        if getattr(model, "optimizer", None) is None:
            raise ScheduleError(
                f"`model` must be compiled with an optimizer. Received: model={model.name!r}, not compiled. "
                "Call `model.compile(optimizer, loss)` first."
            )
        self.model = model
        self.optimizer = model.optimizer
        self.resolved = resolve(stages, model)
        self.pending_logs: Callable[[], Mapping[str, float]] = dict
        self._best_weights: list[np.ndarray] = []
        self._control = Control(model, self.resolved)
        self._set_state(self._control.inherited)
        check_rates(stages, self._state.compiled_rates)
        self._control.attachment.store = lambda: self._saved().pack()
        self.steps_per_epoch = steps_per_epoch

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
    def steps_per_epoch(self) -> int | None:
        """Batches in an epoch, `None` if nobody knows."""
        return self._control.steps_per_epoch

    @steps_per_epoch.setter
    def steps_per_epoch(self, steps: int | None) -> None:
        self._control.steps_per_epoch = steps

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
        self._control.apply(self.current, self._state)

    @property
    def resume_epoch(self) -> int:
        """The epoch that a loaded checkpoint, or the present state, goes on with."""
        if not self._control.attachment.loaded:
            return self._state.epoch
        saved = Saved.unpack(self._control.attachment.loaded)
        # Validation metrics are there when the epoch is over, though this schedule had not been told yet.
        return saved.state.epoch + any(key.startswith("val_") for key in saved.logs)

    def describe(self) -> str:
        """The present stage in a line."""
        stage, total = self.current, sum(math.prod(weight.shape) for weight in self.model.weights)
        rates = [value for key, value in self.log().items() if key.startswith("learning_rate")]
        return (
            f"stage {stage.index + 1} of {len(self.resolved)}, {stage.name!r}: {stage.parameters:,} of {total:,} "
            f"parameters train, BatchNormalization of the backbone: {stage.batch_norm}, learning rate "
            + " … ".join(f"{rate:.3g}" for rate in dict.fromkeys((max(rates), min(rates))))
        )

    def check_length(self, epochs: int | None) -> None:
        """Refuses an `epochs` of `fit` that cannot hold the schedule.

        Args:
            epochs: The number of the last epoch; `None` if nobody knows.
        """
        least = sum(stage.stage.least_epochs for stage in self.resolved)
        if epochs is not None and epochs < least:
            lengths = ", ".join(f"{stage.name!r} {stage.stage.least_epochs}" for stage in self.resolved)
            raise ScheduleError(
                f"`epochs` must be at least {least} for this schedule, whose stages last at least: {lengths}. "
                f"Received: epochs={epochs}"
            )

    def check_monitors(self) -> None:
        """Refuses a stage of which nobody knows which way its `monitor` is better.

        Raises:
            ScheduleError: If a stage needs a `mode`.
        """
        for stage in self.resolved:
            if stage.stage.watches:
                self._is_rising(stage.stage)

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
            epoch: The epoch that is about to begin, from 0.

        Raises:
            ScheduleError: If that stage cannot be known, or the schedule is over.
        """
        saved = self._loaded()
        if saved is not None:
            self._take(saved.state, saved.best_weights)
            for variable, seed in zip(self._control.seeds(), saved.seeds, strict=False):
                variable.assign(seed)
        ahead = epoch - self._state.epoch
        if self._state.entered >= 0 and ((ahead == 0 and (saved or epoch)) or (ahead == 1 and saved)):
            self._control.apply(self.current, self._state)
            if ahead and saved:  # saved at the end of the epoch, by a callback that came first
                self.advance(saved.logs)
        else:
            self._rewind(epoch)
        self.enter()

    def advance(self, logs: Mapping[str, Any]) -> bool:
        """Takes in the results of an epoch; to be called at the end of each.

        Args:
            logs: The epoch's logs, with the monitor of the stage.

        Returns:
            Whether the stage is over: `enter()` begins the next, unless the schedule is `finished`.
        """
        state, stage = self._state, self.resolved[self._state.stage].stage
        state.epoch, state.epochs = state.epoch + 1, state.epochs + 1
        value = _monitored(stage, logs) if stage.watches else None
        if stage.watches and state.observe(value, value is not None and self._is_rising(stage), stage.min_delta):
            self._best_weights = [_array(v) for v in self.current.weights] if stage.restore_best else []
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
        undo, before, stage = self._control.snapshot(), asdict(self._state), self.resolved[self._state.stage]
        try:
            self.restore_best()
            self._control.begin(stage, self._state)
            self._control.apply(stage, self._state)
        except BaseException:
            self._set_state(State(**before))
            undo()
            raise
        self._state.entered = self._state.stage
        return True

    def restore_best(self) -> None:
        """Gives the model the weights of the best epoch of its stage, where the stage says so; done by `enter` too."""
        for variable, value in zip(self.current.weights if self._best_weights else (), self._best_weights, strict=True):
            variable.assign(value)
        if self._best_weights:
            self._control.seed_averages(self.current.variables)
        self._best_weights = []

    # How

    def _is_rising(self, stage: Stage) -> bool:
        """Whether a larger value of the stage's monitor is better."""
        mode = direction(str(stage.monitor), self.model) if stage.mode == "auto" else stage.mode
        if mode is None:
            raise ScheduleError(
                f"Stage {stage.name!r} watches `{stage.monitor}`, and no metric of the model says whether a larger or "
                f'a smaller value of it is better. Pass `mode="max"` or `mode="min"`. Received: mode={stage.mode!r}'
            )
        return mode == "max"

    def _set_state(self, state: State) -> None:
        self._state = self._control.attachment.state = state

    def _take(self, state: State, best_weights: Sequence[np.ndarray]) -> None:
        if len(state.late) != len(self._control.variables) or state.stage >= len(self.resolved):
            raise ScheduleError(
                f"The checkpoint was written under another schedule: it knows {len(state.late)} variables, this "
                f"schedule {len(self._control.variables)}. Train under the schedule it was written with, or delete it."
            )
        self._set_state(state)
        self._best_weights = list(best_weights)

    def _loaded(self) -> Saved | None:
        arrays, self._control.attachment.loaded = self._control.attachment.loaded, {}
        return Saved.unpack(arrays) if "schedule" in arrays else None

    def _saved(self) -> Saved:
        return Saved(self._state, self.pending_logs(), self._best_weights, [_array(v) for v in self._control.seeds()])

    def _rewind(self, epoch: int) -> None:
        """The state at the beginning of an epoch, by the `epochs` of the stages before."""
        left = epoch
        for stage in self.resolved:
            if left < (stage.stage.epochs or math.inf):
                break
            left -= stage.stage.epochs or 0
        if left and (stage.stage.epochs is None and stage.stage.patience is not None):
            raise ScheduleError(
                f"Training cannot begin at epoch {epoch + 1}: stage {stage.index + 1} ({stage.name!r}) ends by "
                "plateau, so nothing says how long it lasted. Resume with `BackupAndRestore` or "
                "`ProgressiveUnfreezing.load_model`."
            )
        if left >= (stage.stage.epochs or math.inf):
            raise ScheduleError(f"Training cannot begin at epoch {epoch + 1}: the schedule has ended by then.")
        kept = {key: getattr(self._state, key) for key in ("compiled_rates", "late", "frozen")}
        self._set_state(State(stage=stage.index, epoch=epoch, epochs=left, **kept))
        self._best_weights = []


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
