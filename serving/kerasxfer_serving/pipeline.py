"""The prediction pipeline: read, decode, run and write concurrently, in order and with bounded memory."""

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
    """More inputs have failed than allowed."""


class PredictionEngine(Protocol):
    """An engine that predicts a stream of inputs: a `Predictor`, or many of them on a cluster."""

    manifest: Manifest

    @property
    def workers(self) -> int:
        """Batches in progress at once."""

    def describe(self) -> dict[str, Any]:
        """Everything that decides the answers, as plain values."""

    def describe_session(self) -> dict[str, Any]:
        """Where and how the model runs."""

    def stream(self, inputs: Iterable[Input]) -> Iterator[Predictions]:
        """Predict in the order of `inputs`, which are consumed only as fast as they are predicted."""


def predict_to(
    engine: PredictionEngine,
    reader: Reader,
    writer: Writer,
    *,
    max_errors: int | None = None,
    watch: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Predict all inputs of a reader into a writer.

    Args:
        engine: The engine that predicts.
        reader: Where the inputs come from.
        writer: Where the predictions go; what it has from an earlier run is skipped.
        max_errors: Stop when more inputs than this have failed. Defaults to `None`, never.
        watch: Called with the summary after every batch.

    Returns:
        The `Summary`.

    Raises:
        TooManyErrorsError: More than `max_errors` inputs have failed. Like `KeyboardInterrupt`, it is raised after all
            predictions so far are committed.
    """
    inputs = iter(reader)
    done_before = writer.skip(inputs)
    summary = Summary(engine.workers, done_before)
    try:
        for predictions in engine.stream(_timed(inputs, summary, "read")):
            with summary.time("write"):
                writer.write(predictions)
            summary.add(predictions)
            watch(summary)
            if max_errors is not None and summary.errors > max_errors:
                raise TooManyErrorsError(f"{summary.errors:,} inputs have failed, more than {max_errors:,}: stopped.")
    except (KeyboardInterrupt, KerasxferError):
        writer.stop()
        raise
    summary.skipped = reader.skipped
    writer.finish(summary.to_dict())
    return summary


def _timed(items: Iterable[T], summary: Summary, step: str) -> Iterator[T]:
    iterator = iter(items)
    while True:
        with summary.time(step):
            item = next(iterator, None)
        if item is None:
            return
        yield item
