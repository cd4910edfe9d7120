"""The way of an image: read, decode, run, write; all at once, in order, and with bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.inputs.input import Input
from kerasxfer_serving.inputs.reader import Reader
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.outputs.summary import Summary
from kerasxfer_serving.outputs.writer import Writer

T = TypeVar("T")


class TooManyErrorsError(KerasxferError):
    """More inputs have failed than are allowed."""


class Engine(Protocol):
    """What predicts a stream of inputs: a `Predictor`, or many of them on a cluster."""

    @property
    def workers(self) -> int:
        """Batches in work at once."""

    def _timed(items: Iterable[T], summary: Summary, step: str) -> Iterator[T]:
    iterator = iter(items)
    while True:
        with summary.time(step):
            item = next(iterator, None)
        if item is None:
            return
        yield item
