"""Learning rates of a schedule: numbers, shares of the compiled rate, schedules of a stage, warm-up."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from kerasxfer.unfreezing.stages import ScheduleError, Stage
from kerasxfer.unfreezing.state import State

Rate = Callable[[Any, Any], Any]


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
