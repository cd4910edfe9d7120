"""The stages of a fine-tuning schedule."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import keras
from kerasxfer_serving.errors import UsageError

_MODES = ("auto", "min", "max")
_BATCH_NORM = ("frozen", "train")


class ScheduleError(UsageError, ValueError):
    """A schedule that contradicts itself, or does not fit the model, its optimizer or `fit`."""


@dataclass(frozen=True)
class Stage:
    """What trains during one stage, at which learning rate, and what ends it.

    A stage ends after `epochs` or when `monitor` has not improved for `patience` epochs, whichever comes first. The
    last stage of a schedule may have neither. Stages add up: what one unfreezes stays unfrozen until a later one
    freezes it. The head (everything outside the backbone) trains from the first stage on.

    Args:
        unfreeze: What starts to train: a block of the backbone by name (`"block5"`); a layer of it by name, which means
            this layer and all above it (`"block5_conv1"`); a pattern (`"block6*"`) or a list of names and patterns,
            which mean exactly the matching ones; a number of blocks from the top; a fraction of the blocks from the
            top; or `"all"`. `kerasxfer.layer_groups(model)` shows the blocks. If two backbones have the name, write
            `"backbone/name"`. Defaults to `None`: nothing new.
        epochs: Maximum number of epochs of the stage.
        patience: Number of epochs without improvement after which the stage ends.
        min_delta: The smallest change of `monitor` that counts as an improvement. Defaults to 0.
        monitor: Key of the epoch's logs to watch. Defaults to `"val_loss"`.
        mode: `"min"`, `"max"` or `"auto"`, which asks the model's metric. Custom metrics and logs of other callbacks do
            not tell which way is better: they need a mode.
        learning_rate: A number, a string such as `"0.1x"` (times the rate the model was compiled with), or a
            `keras.optimizers.schedules.LearningRateSchedule`, which starts over with the stage. Defaults to `None`: the
            rate does not change.
        warmup: Number of epochs over which the rate rises linearly from zero; may be a fraction. Defaults to 0.
        layer_decay: Factor of the learning rate from block to block: the head trains at the full rate, the block
            below it at `layer_decay` of that, the next at its square, … Defaults to `None`: one rate for all.
        batch_norm: `"frozen"` keeps every `BatchNormalization` of the backbone in inference mode, with weights and
            statistics unchanged; `"train"` lets those of the unfrozen blocks train.
        restore_best: Whether to restore the weights of the stage's best epoch, by `monitor`, when it ends.
        freeze: What stops training: names and patterns as for `unfreeze`, or `"head"`.
        name: Name of the stage in messages. Defaults to what it unfreezes.

    Raises:
        ScheduleError: If an argument is out of its range or contradicts another.

    Example:

    >>> from kerasxfer import Stage
    >>> schedule = [Stage(epochs=5, learning_rate=1e-3), Stage("block5", patience=3, learning_rate="0.01x")]
    >>> schedule[1].name
    'block5'
    """

    unfreeze: str | int | float | Sequence[str] | None = None
    _: KW_ONLY
    epochs: int | None = None
    patience: int | None = None
    min_delta: float = 0
    monitor: str | None = None
    mode: str = "auto"
    learning_rate: Any = None
    warmup: float = 0
    layer_decay: float | None = None
    batch_norm: str = "frozen"
    restore_best: bool = False
    freeze: str | Sequence[str] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        for argument in ("unfreeze", "freeze"):
            if isinstance(value := getattr(self, argument), list):
                object.__setattr__(self, argument, tuple(value))
        if self.monitor is None:
            object.__setattr__(self, "monitor", "val_loss")
        if self.name is None:
            object.__setattr__(self, "name", _default_name(self.unfreeze))
        self._check()

    def _check(self) -> None:
        for argument in ("epochs", "patience"):
            _check_count(argument, getattr(self, argument))
        _check_choice("mode", self.mode, _MODES)
        _check_choice("batch_norm", self.batch_norm, _BATCH_NORM)
        for argument in ("warmup", "min_delta"):
            if not _is_number(value := getattr(self, argument)) or value < 0:
                raise ScheduleError(f"`{argument}` must be a number, 0 or above. Received: {argument}={value!r}")
        if self.layer_decay is not None and not (_is_number(self.layer_decay) and 0 < self.layer_decay <= 1):
            raise ScheduleError(
                f"`layer_decay` must be above 0 and at most 1. Received: layer_decay={self.layer_decay!r}"
            )
        _check_selection("unfreeze", self.unfreeze, counts=True)
        _check_selection("freeze", self.freeze, counts=False)
        self._check_learning_rate()

    def _check_learning_rate(self) -> None:
        rate = self.learning_rate
        if isinstance(rate, str) and self.factor is None:
            raise ScheduleError(f'`learning_rate` as a string must look like "0.1x". Received: learning_rate={rate!r}')
        if _is_number(rate) and rate <= 0:
            raise ScheduleError(f"`learning_rate` must be above 0. Received: learning_rate={rate}")
        if not (rate is None or isinstance(rate, str) or _is_number(rate) or _is_schedule(rate)):
            raise ScheduleError(
                '`learning_rate` must be a number, a string such as "0.1x" or a '
                f"`keras.optimizers.schedules.LearningRateSchedule`. Received: learning_rate={rate!r}"
            )

    @property
    def factor(self) -> float | None:
        """The factor of a relative learning rate (`"0.1x"`), else `None`."""
        if not isinstance(self.learning_rate, str) or not self.learning_rate.endswith("x"):
            return None
        try:
            factor = float(self.learning_rate[:-1])
        except ValueError:
            return None
        return factor if 0 < factor < float("inf") else None

    @property
    def watches(self) -> bool:
        """Whether the stage needs `monitor` in the logs."""
        return self.patience is not None or self.restore_best

    @property
    def least_epochs(self) -> int:
        """The fewest epochs the stage can last: on a plateau, the best one and `patience` more."""
        ends = [self.epochs, None if self.patience is None else self.patience + 1]
        return min([end for end in ends if end is not None], default=1)

    @property
    def open_ended(self) -> bool:
        """Whether only the end of `fit` ends the stage."""
        return self.epochs is None and self.patience is None

    def to_dict(self) -> dict[str, Any]:
        """The arguments that differ from their defaults, as plain values for `from_dict`.

        Returns:
            A dictionary of numbers, strings, lists and dictionaries.
        """
        plain, names = Stage(), [one.name for one in fields(self)]
        changed = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(plain, name)}
        if self.name == _default_name(self.unfreeze):
            changed.pop("name", None)
        if _is_schedule(self.learning_rate):
            changed["learning_rate"] = keras.optimizers.schedules.serialize(self.learning_rate)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in changed.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Stage":
        """A stage from its arguments.

        Args:
            values: The output of `to_dict`, or an entry of a YAML schedule. A number may be written `1e-3`, which YAML
                reads as a string, and a learning rate schedule as Keras serialises it.

        Returns:
            The `Stage`.

        Raises:
            ScheduleError: If a key is no argument of `Stage`.
        """
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ScheduleError(f"A stage knows the keys {', '.join(known)}. Received: {', '.join(map(repr, unknown))}")
        arguments = {key: _number(value) if key != "name" else value for key, value in values.items()}
        if isinstance(arguments.get("learning_rate"), Mapping):
            arguments["learning_rate"] = keras.optimizers.schedules.deserialize(dict(arguments["learning_rate"]))
        return cls(**arguments)


def check_ends(stages: Sequence[Stage]) -> None:
    """Refuse a schedule that is none, or goes on after a stage without an end."""
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise ScheduleError(f"`stages` must be a list of at least one `Stage`. Received: stages={stages!r}")
    for index, stage in enumerate(stages[:-1]):
        if stage.open_ended:
            raise ScheduleError(
                f"Stage {index + 1} ({stage.name!r}): only the last stage may be open-ended. "
                "Give it `epochs`, `patience` or both."
            )


def _default_name(unfreeze: Any) -> str:
    if unfreeze is None:
        return "head"
    if isinstance(unfreeze, (list, tuple)):
        return ", ".join(map(str, unfreeze))
    if isinstance(unfreeze, float):
        return f"top {unfreeze:.0%}"
    return f"top {unfreeze}" if isinstance(unfreeze, int) else str(unfreeze)


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-3` as a string."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_schedule(value: Any) -> bool:
    return isinstance(value, keras.optimizers.schedules.LearningRateSchedule)


def _check_count(argument: str, value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ScheduleError(f"`{argument}` must be a whole number, 1 or above. Received: {argument}={value!r}")


def _check_choice(argument: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ScheduleError(f"`{argument}` must be one of {', '.join(choices)}. Received: {argument}={value!r}")


def _check_selection(argument: str, value: Any, counts: bool) -> None:
    if value is None or (isinstance(value, str) and value):
        return
    if isinstance(value, tuple) and value and all(isinstance(item, str) and item for item in value):
        return
    if counts and isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return
    if counts and isinstance(value, float) and 0 < value <= 1:
        return
    also = ", a number of blocks (1 or above) or a fraction of them (above 0, at most 1)" if counts else ""
    raise ScheduleError(f"`{argument}` must be a name, a list of names{also}. Received: {argument}={value!r}")
