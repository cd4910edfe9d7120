"""Rates of several models that can be compared: measured in turns, so that a busy moment slows all of them alike."""

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import TypeVar

from kerasxfer_serving.benchmarking.measuring import Measurement, Repeat, Rules
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.inputs.input import Input
from kerasxfer_serving.outputs.predictions import OK
from kerasxfer_serving.predictor import Predictor

Name = TypeVar("Name", bound=Hashable)


def end_to_end_in_turns(
    predictors: Mapping[Name, Predictor], items: Sequence[Input], *, duration: float = 6.0, rules: Rules | None = None
) -> dict[Name, Measurement]:
    """Measure files in, answers out, of several models on the same images.

    Every round runs each model over as many images as take it its share of the time, from the first decoded to the last
    answered: nothing of one model is still at work while another is timed. Every other round goes through the models
    backwards.

    Args:
        predictors: The models, by name.
        items: The images, taken again and again.
        duration: Seconds of each model's figure, all rounds together. Defaults to 6.
        rules: Number of rounds (`repeats`), and how near two runs of the warm-up must be to be stable. Defaults to
            `Rules()`.

    Returns:
        An `"end_to_end"` `Measurement` of each model, by its name.

    Raises:
        UsageError: There are no images.

    Example:

    ```python
    from kerasxfer_serving.inputs.input import as_inputs

    with Predictor("model.onnx") as exact:
        rates = end_to_end_in_turns({"fp32": exact}, as_inputs(["cat.jpg"]), duration=0.1)
    rates["fp32"].rate  # images a second
    ```
    """
    if not items:
        raise UsageError("`items` must hold an image.")
    rules = rules or Rules()
    share = duration / rules.repeats
    lanes = {name: _Lane(predictor, cycle(items), share, rules) for name, predictor in predictors.items()}
    order = list(lanes.values())
    for _ in range(rules.repeats):
        for lane in order:
            lane.repeat()
        order.reverse()
    return {name: lane.measurement() for name, lane in lanes.items()}


class _Lane:
    """One model with its images; as many of them a round as take about `seconds`."""

    def __init__(self, predictor: Predictor, items: Iterator[Input], seconds: float, rules: Rules) -> None:
        self._predictor = predictor
        self._items = items
        self._repeats: list[Repeat] = []
        started = time.perf_counter()
        step = self._count = predictor.batch_size * predictor.workers
        first, second = self._run(), self._run()
        while second.seconds < seconds / 2 or abs(first.rate - second.rate) > rules.stable * second.rate:
            if time.perf_counter() - started > 3 * seconds:
                break
            self._count = step * max(1, round(second.rate * seconds / step))
            first, second = second, self._run()
        self._stable = abs(first.rate - second.rate) <= rules.stable * second.rate
        self._count = step * max(1, round(second.rate * seconds / step))
        self._warm_up_seconds = time.perf_counter() - started

    def repeat(self) -> None:
        self._repeats.append(self._run())

    def measurement(self) -> Measurement:
        repeats, batch_size = tuple(self._repeats), self._predictor.batch_size
        return Measurement("end_to_end", batch_size, repeats, self._warm_up_seconds, self._stable)

    def _run(self) -> Repeat:
        images = 0
        steps = []
        before = time.perf_counter()
        for predictions in self._predictor.stream(islice(self._items, self._count)):
            images += sum(status == OK for status in predictions.status)
            now = time.perf_counter()
            steps.append(now - before)
            before = now
        return Repeat(images, tuple(steps))
