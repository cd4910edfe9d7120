"""What a schedule would do to a model, as a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.files import format_bytes
from kerasxfer_serving.notebook import html_table

from kerasxfer import keras_internals as internals
from kerasxfer.unfreezing.control import check_rates, number_for
from kerasxfer.unfreezing.resolve import ResolvedStage, resolve, union
from kerasxfer.unfreezing.stages import Stage

_HEADINGS = ("stage", "trains", "ends", "trainable", "BatchNorm", "learning rate", "optimizer")


@dataclass(frozen=True)
class SchedulePlan:
    """A schedule for one model.

    Args:
        rows: A dictionary for each stage: `stage`, `name`, `blocks`, `ends`, `trainable_params`, `batch_norm`,
            `learning_rate` (text), `optimizer_bytes` (slots of what trains then).
        optimizer_bytes: Slots of all that ever trains, which the optimizer holds from the first step on; 0 if the
            model is not compiled.
    """

    rows: tuple[dict[str, Any], ...]
    optimizer_bytes: int

    def __str__(self) -> str:
        cells = [list(_HEADINGS), *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
        padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]
        lines = ["  ".join(line).rstrip() for line in padded]
        return "\n".join([*lines, *filter(None, [self._memory()])])

    def _repr_html_(self) -> str:
        rows = (dict(zip(_HEADINGS, _cells(row), strict=True)) for row in self.rows)
        return html_table(rows, caption=self._memory(), most=len(self.rows))

    def _memory(self) -> str:
        """What the optimizer needs, in words; nothing where that is not known."""
        size = format_bytes(self.optimizer_bytes)
        return f"The optimizer holds {size} for all of it from the first step on." if self.optimizer_bytes else ""


def plan(stages: Sequence[Stage], model: keras.Model) -> SchedulePlan:
    """Works out what each stage trains, how, and what the optimizer needs for it. Nothing is trained.

    Args:
        stages: The schedule.
        model: A built `keras.Model`; rates and memory are those of its optimizer where it is compiled.

    Returns:
        The `SchedulePlan`.

    Raises:
        ScheduleError: If the schedule does not fit the model.
    """
    resolved = resolve(stages, model)
    optimizer = getattr(model, "optimizer", None)
    compiled = internals.compiled_rates(optimizer) if optimizer is not None else []
    if optimizer is not None:
        check_rates(stages, compiled)
    share = _slots_per_weight(optimizer) if optimizer is not None else 0.0
    rate: Any = (compiled[0] if compiled[0] is not None else "as compiled") if len(compiled) == 1 else "as compiled"
    rows = []
    for stage in resolved:
        rate = _rate(stage.stage, compiled, rate)
        rows.append(
            {
                "stage": stage.index + 1,
                "name": stage.name,
                "blocks": list(stage.blocks),
                "ends": _ends(stage.stage),
                "trainable_params": stage.parameters,
                "batch_norm": stage.batch_norm,
                "learning_rate": _rate_text(stage, rate),
                "optimizer_bytes": round(share * _bytes(stage.variables)),
            }
        )
    return SchedulePlan(tuple(rows), round(share * _bytes(union(resolved, model))))


def _slots_per_weight(optimizer: Any) -> float:
    """Found out on an optimizer of the same kind, built on four numbers."""
    probe = keras.Variable([[0.0, 0.0], [0.0, 0.0]])
    twin = type(optimizer).from_config(optimizer.get_config())
    twin.build([probe])
    return float(sum(slot.shape == probe.shape for slot in internals.slots(twin).values()))


def _bytes(variables: Sequence[Any]) -> int:
    return sum(math.prod(variable.shape) * np.dtype(str(variable.dtype)).itemsize for variable in variables)


def _rate(stage: Stage, compiled: Sequence[float | None], before: Any) -> Any:
    if stage.learning_rate is None:
        return before
    if len(compiled) == 1 or stage.factor is None:
        number = number_for(stage, compiled[0] if compiled else None)
        return number if number is not None else stage.learning_rate
    return stage.learning_rate


def _rate_text(stage: ResolvedStage, rate: Any) -> str:
    text = f"{rate:.3g}" if isinstance(rate, float) else rate if isinstance(rate, str) else type(rate).__name__
    if stage.shares and stage.stage.layer_decay is not None:
        least = min(stage.shares.values())
        text += f" … {rate * least:.3g}" if isinstance(rate, float) else f", blocks × 1 … {least:.3g}"
    return text + (f", warm-up {stage.stage.warmup:g}" if stage.stage.warmup else "")


def _ends(stage: Stage) -> str:
    ends = [f"{stage.epochs} epochs"] if stage.epochs else []
    ends += [f"{stage.monitor} stalls for {stage.patience}"] if stage.patience else []
    return " or ".join(ends) or "with fit"


def _cells(row: dict[str, Any]) -> list[str]:
    blocks = row["blocks"]
    trains = "head" + (f" + {blocks[0]}" if blocks else "") + (f" … {blocks[-1]} ({len(blocks)})" if blocks[1:] else "")
    return [
        f"{row['stage']} {row['name']}",
        trains,
        row["ends"],
        f"{row['trainable_params']:,}",
        row["batch_norm"],
        row["learning_rate"],
        format_bytes(row["optimizer_bytes"]),
    ]
