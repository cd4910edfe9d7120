"""Schedules as files, and the usual one made for a model."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import yaml

from kerasxfer.unfreezing.groups import layer_groups
from kerasxfer.unfreezing.stages import ScheduleError, Stage


def load_yaml(source: str | Path) -> list[Stage]:
    """Reads a schedule.

    Args:
        source: A YAML file, or the text itself: a mapping with `stages`, a list of `Stage` arguments.

    Returns:
        The stages.

    Raises:
        ScheduleError: If that is not what is there; the message names the stage.

    Example:

    >>> from kerasxfer.unfreezing.schedules import load_yaml
    >>> [stage.name for stage in load_yaml("stages: [{epochs: 5}, {unfreeze: block5, learning_rate: 1e-5}]")]
    ['head', 'block5']
    """
    is_text = isinstance(source, str) and re.search(r":(\s|$)", source)
    if not is_text and not Path(source).is_file():
        raise ScheduleError(
            f"A schedule must be a YAML file or its text. Received: {str(source)!r}, which is not a file."
        )
    try:
        content = yaml.safe_load(str(source) if is_text else Path(source).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScheduleError(f"The schedule is not YAML: {error}") from None
    entries = content.get("stages") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ScheduleError(
            f"A schedule must hold `stages:`, a list with one mapping for each stage. Received: {content!r}"
        )
    return [_stage(number, entry) for number, entry in enumerate(entries, 1)]


def dump_yaml(stages: Sequence[Stage], path: str | Path | None = None) -> str:
    """Writes a schedule, as `load_yaml` reads it.

    Args:
        stages: The stages.
        path: File to write to. Defaults to `None`: none.

    Returns:
        The YAML text.
    """
    text: str = yaml.safe_dump({"stages": [stage.to_dict() for stage in stages]}, sort_keys=False)
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def by_block(
    model: keras.Model,
    count: int | None = None,
    *,
    step: int = 1,
    head_epochs: int = 5,
    epochs: int | None = 5,
    patience: int | None = None,
    learning_rate: Any = "0.1x",
    layer_decay: float | None = None,
    batch_norm: str = "frozen",
    restore_best: bool = False,
) -> list[Stage]:
    """Makes the usual schedule: the head first, then the blocks from the top, `step` at a time.

    Args:
        model: A built `keras.Model`.
        count: How many blocks in all. Defaults to `None`: every one.
        step: How many blocks each stage adds. Defaults to 1.
        head_epochs: How long the head trains alone. Defaults to 5.
        epochs: How long each later stage lasts at most. Defaults to 5.
        patience: Epochs without improvement that end it. Defaults to `None`: only `epochs` does.
        learning_rate: The rate of the later stages. Defaults to `"0.1x"`, a tenth of the compiled one.
        layer_decay: As for `Stage`, in the later stages.
        batch_norm: As for `Stage`, in the later stages.
        restore_best: As for `Stage`, in the later stages.

    Returns:
        The stages.
    """
    names = [block.name for block in reversed(layer_groups(model).blocks)]
    if count is not None and not 1 <= count <= len(names):
        raise ScheduleError(f"`count` must be between 1 and the number of blocks, {len(names)}. Received: {count}")
    chosen = names[:count]
    later = [
        Stage(
            chosen[i] if step == 1 else chosen[i : i + step],
            epochs=epochs,
            patience=patience,
            learning_rate=learning_rate,
            layer_decay=layer_decay,
            batch_norm=batch_norm,
            restore_best=restore_best,
        )
        for i in range(0, len(chosen), step)
    ]
    return [Stage(epochs=head_epochs), *later]


def _stage(number: int, entry: Mapping[str, Any]) -> Stage:
    try:
        return Stage.from_dict(entry)
    except (TypeError, ValueError) as error:
        raise ScheduleError(f"Stage {number} of the schedule: {error}") from None
