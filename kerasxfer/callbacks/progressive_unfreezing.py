"""One `fit`, stages inside."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from kerasxfer.keras_internals import metrics_so_far
from kerasxfer.unfreezing.engine import Engine
from kerasxfer.unfreezing.plan import SchedulePlan, plan
from kerasxfer.unfreezing.schedules import by_block, dump_yaml, load_yaml
from kerasxfer.unfreezing.stages import Stage


class ProgressiveUnfreezing(keras.callbacks.Callback):
    """Unfreezes a model stage by stage inside one `fit`, on TensorFlow, JAX and PyTorch.

    The optimizer state of variables that already train stays the same, bit for bit, across a transition. Variables that
    start training later have their own step count, so Adam's first steps on them are no larger than a new Adam's. The
    position in the schedule is stored in the optimizer's own checkpoint: with `BackupAndRestore`, a killed run resumes
    in the right stage, whichever of the two callbacks comes first. (On PyTorch, a `Dropout` without a `seed` draws from
    PyTorch's global generator, which no checkpoint stores: set a seed if a resumed run must repeat exactly.)

    Each epoch's logs get `stage` (from 1), `trainable_params` and `learning_rate`, and with `layer_decay` a
    `learning_rate_<block>` for each block. Training stops after a last stage with `epochs` or `patience`.

    Args:
        stages: List of `kerasxfer.Stage`.
        verbose: Whether to print a line at each transition. Defaults to 1.
        restart: Callbacks such as `EarlyStopping` and `ReduceLROnPlateau` to reset at the start of every stage; pass
            them to `fit` as well.

    Raises:
        ValueError: Before the first step, if the schedule does not fit the model, its optimizer or `fit`'s `epochs`.

    Example:

    >>> import keras, numpy, kerasxfer
    >>> base = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg")
    >>> model = keras.Sequential([base, keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.Adam(1e-3), "mse")
    >>> stages = [kerasxfer.Stage(epochs=1), kerasxfer.Stage("block_13", epochs=1, learning_rate="0.01x")]
    >>> unfreezing = kerasxfer.callbacks.ProgressiveUnfreezing(stages, verbose=0)
    >>> x, y = numpy.ones((4, 32, 32, 3)), numpy.ones((4, 1))
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[unfreezing])
    >>> history.history["stage"]
    [1.0, 2.0]
    """

    def __init__(
        self, stages: Sequence[Stage], *, verbose: int = 1, restart: Sequence[keras.callbacks.Callback] = ()
    ) -> None:
        super().__init__()
        self.stages = list(stages)
        self.verbose = verbose
        self.restart = list(restart)
        self.engine: Engine | None = None
        self._begun = False
        self._logs: dict[str, float] = {}

    @property
    def monitors(self) -> list[str]:
        """The log keys that the stages watch."""
        return list(dict.fromkeys(str(stage.monitor) for stage in self.stages if stage.watches))

    @property
    def initial_epoch(self) -> int:
        """The epoch to resume from after `load_model`; pass it to `fit` as `initial_epoch`."""
        if self.engine is None:
            return 0
        return self.engine.resume_epoch

    def attach(self, model: keras.Model) -> Engine:
        """Binds the schedule to a compiled model; `fit` does this automatically.

        Args:
            model: A compiled and built `keras.Model`.

        Returns:
            The `kerasxfer.unfreezing.Engine` that steps the model through the stages.
        """
        if self.engine is None or self.engine.model is not model or self.engine.optimizer is not model.optimizer:
            self.engine = Engine(model, self.stages)
            self.engine.pending_logs = self._logs_so_far
        return self.engine

    def _logs_so_far(self) -> dict[str, float]:
        return self._logs or (_numbers(metrics_so_far(self)) if self._begun else {})

    def load_model(self, path: str | Path, **kwargs: Any) -> keras.Model:
        """Loads a `.keras` file that was saved in any stage, with the optimizer's slots and the schedule's state.

        Args:
            path: The file.
            **kwargs: Passed to `keras.saving.load_model`.

        Returns:
            The model. Resume with `fit(initial_epoch=unfreezing.initial_epoch, callbacks=[unfreezing])`.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
            model = keras.saving.load_model(path, **kwargs)
        self.attach(model)
        model.load_weights(path)
        return model

    def plan(self, model: keras.Model) -> SchedulePlan:
        """Prints what each stage would train, how, and at what cost, without training.

        Args:
            model: A built `keras.Model`; if it is compiled, rates and memory are those of its optimizer.

        Returns:
            A `SchedulePlan`: `rows` (a dictionary per stage), and `str()` as the printed table.
        """
        planned = plan(self.stages, model)
        _say(str(planned))
        return planned

    @classmethod
    def from_yaml(cls, source: str | Path, **kwargs: Any) -> "ProgressiveUnfreezing":
        """Reads a schedule.

        Args:
            source: A YAML file or its text: `stages:` and a list of `Stage` arguments.
            **kwargs: Other arguments of the callback.

        Returns:
            The callback.
        """
        return cls(load_yaml(source), **kwargs)

    def to_yaml(self, path: str | Path | None = None) -> str:
        """Writes the schedule.

        Args:
            path: File to write to. Defaults to `None`, no file.

        Returns:
            The YAML text.
        """
        return dump_yaml(self.stages, path)

    @classmethod
    def by_block(cls, model: keras.Model, **kwargs: Any) -> "ProgressiveUnfreezing":
        """Makes the usual schedule: the head first, then block by block from the top.

        Args:
            model: A built `keras.Model`.
            **kwargs: Arguments of `kerasxfer.unfreezing.schedules.by_block`, and of the callback.

        Returns:
            The callback.
        """
        own = {key: kwargs.pop(key) for key in ("verbose", "restart") if key in kwargs}
        return cls(by_block(model, **kwargs), **own)

    # Keras's hooks

    def set_model(self, model: keras.Model) -> None:
        """Builds the optimizer before any callback's `on_train_begin`, where `BackupAndRestore` loads into it."""
        super().set_model(model)
        if getattr(model, "optimizer", None) is not None:
            self.attach(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the schedule against the arguments of `fit`."""
        engine = self.attach(self.model)
        engine.steps_per_epoch = self.params.get("steps")
        engine.check_length(self.params.get("epochs"))
        engine.check_monitors()
        self._begun, self._logs = False, {}

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Enters the stage that is due."""
        engine = self.attach(self.model)
        before = engine.current if self._begun else None
        if self._begun:
            engine.enter()
        else:  # only now: a callback after this one may have loaded a checkpoint in `on_train_begin`
            engine.start(epoch)
        self._begun, self._logs = True, {}
        if engine.current is before:
            return
        if before is not None:
            for callback in self.restart:
                callback.on_train_begin()
        if self.verbose:
            _say(f"Epoch {epoch + 1}: {engine.describe()}")

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Notes the training metrics for a checkpoint that is written before `on_epoch_end` comes here."""
        if self._begun:
            self._logs = _numbers(metrics_so_far(self))

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Notes the validation metrics for such a checkpoint."""
        if self._begun:
            self._logs.update({f"val_{key}": value for key, value in _numbers(logs or {}).items()})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the stage to the logs and takes in the results."""
        logs = {} if logs is None else logs
        engine = self.attach(self.model)
        logs.update(engine.log())
        engine.advance(logs)
        self._logs = {}
        if engine.finished:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the best weights of the last stage, where it says so."""
        self._begun = False
        if self.engine is not None:
            self.engine.restore_best()


def _numbers(logs: Any) -> dict[str, float]:
    flat = {key: keras.ops.convert_to_numpy(value) for key, value in logs.items() if not isinstance(value, dict)}
    return {key: float(value) for key, value in flat.items() if value.ndim == 0}


def _say(message: str) -> None:
    if keras.config.is_interactive_logging_enabled():
        print(message)
    else:
        logging.getLogger("kerasxfer").info(message)
