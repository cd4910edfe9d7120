"""Counts, rate and bottleneck of a run, while it goes on and at its end."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kerasxfer_serving.outputs.predictions import OK, Predictions

_BUSY = 0.6
_NOTICEABLE = 0.2


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
