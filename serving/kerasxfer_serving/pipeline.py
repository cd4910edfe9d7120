"""A run of predictions: read, decode, run and write concurrently, in order and with bounded memory; and its summary."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.inputs.input import Input
from kerasxfer_serving.inputs.reader import Reader
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.outputs.predictions import OK, Predictions
from kerasxfer_serving.outputs.writer import Writer

T = TypeVar("T")

_BUSY = 0.6
_NOTICEABLE = 0.2


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


class Summary:
    """What a run has done so far.

    Args:
        workers: Batches in work at once.
        status: Number of inputs by status that an earlier run did.

    Attributes:
        status: Number of inputs by status.
        skipped: Number of files by suffix that were not taken for images.
    """

    def __init__(self, workers: int, status: Counter[str] | None = None) -> None:
        self.status = Counter(status or {})
        self.before = self.status.total()
        self.skipped: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self._workers = workers
        self._started = time.perf_counter()

    def add(self, predictions: Predictions) -> None:
        """Count a batch."""
        self.status.update(predictions.status)
        self.seconds.update(predictions.seconds)

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Count the time spent within the context to a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - started  # type: ignore[assignment]

    @property
    def done(self) -> int:
        """Number of inputs done, with those of an earlier run."""
        return self.status.total()

    @property
    def errors(self) -> int:
        """Number of inputs without an answer."""
        return self.done - self.status[OK]

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    @property
    def rate(self) -> float:
        """Inputs per second of this run."""
        return (self.done - self.before) / max(self.elapsed, 1e-9)

    @property
    def bottleneck(self) -> str:
        """The step that decides the rate: `"decode"`, `"model"`, `"read"` or `"write"`.

        Or `"waiting"`, where none of them does: for processes to start, for images to travel between machines.
        """
        working = self.seconds["decode"] + self.seconds["model"]
        steps = ("decode", "model") if working > _BUSY * self._workers * self.elapsed else ("read", "write")
        slowest = max(steps, key=lambda step: self.seconds[step])
        return slowest if self.seconds[slowest] > _NOTICEABLE * self.elapsed else "waiting"

    @property
    def worker_rates(self) -> dict[str, float]:
        """Inputs per second of one worker, by step: what each step would give alone, on one core or GPU."""
        done = self.done - self.before
        return {step: round(done / self.seconds[step], 2) for step in ("decode", "model") if self.seconds[step] > 0}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "inputs": self.done,
            "ok": self.status[OK],
            "errors": self.errors,
            "status": dict(self.status.most_common()),
            "skipped": dict(self.skipped.most_common()),
            "seconds": round(self.elapsed, 3),
            "inputs_per_second": round(self.rate, 2),
            "worker_rates": self.worker_rates,
            "bottleneck": self.bottleneck,
        }


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
