"""Threads that decode, and threads that run models on what is decoded, batched as the load has it.

The policy for a CPU, by measurement: one model thread per core, one thread a run, no waiting for a batch to fill; a
free thread takes its fair share of what waits, waiting / free threads. Decoding has threads of its own, so a large
image delays the small ones behind it less than if it held a model thread.
"""

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import DecodedImage
from kerasxfer_serving.server.jobs import Job, Model


class _Ready(NamedTuple):
    """One image that waits for the model."""

    job: Job
    place: int
    image: DecodedImage | ImageError
    since: float
    seconds: dict[str, float]


@dataclass(frozen=True)
class BatchPolicy:
    """How images become batches.

    Args:
        runners: Batches that run at once.
        delay: Seconds that a runner waits for a batch to fill; with 0 each takes its fair share of what is there.
    """

    runners: int
    delay: float = 0.0


BatchWatcher: TypeAlias = Callable[[Model, int, float], None]


class BatchingEngine:
    """Decodes and predicts the images of jobs.

    Args:
        decoders: Images that are decoded at once.
        policy: How they become batches.
        on_batch: Called after every run, in its thread, with the model, the number of images and the seconds.
    """

    def __init__(self, decoders: int, policy: BatchPolicy, on_batch: BatchWatcher = lambda *_: None) -> None:
        self.policy = policy
        self._on_batch = on_batch
        self._encoded: queue.SimpleQueue[tuple[Job, int] | None] = queue.SimpleQueue()
        self._ready: dict[Model, deque[_Ready]] = {}
        self._changed = threading.Condition()
        self._idle = 0
        self._closed = False
        names = [("decode", self._decode_forever)] * decoders + [("run", self._run_forever)] * policy.runners
        self._threads = [
            threading.Thread(target=target, name=f"kerasxfer-{name}", daemon=True) for name, target in names
        ]
        self._decoders = decoders
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Begin a job; its `finish` is called from a thread."""
        for index in range(len(job.sources)):
            self._encoded.put((job, index))

    def close(self) -> None:
        """End the threads after what they have in hand."""
        for _ in range(self._decoders):
            self._encoded.put(None)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _decode_forever(self) -> None:
        while (work := self._encoded.get()) is not None:
            self._decode(*work)
            del work  # else the images of the last request stay as long as no other comes

    def _decode(self, job: Job, index: int) -> None:
        source = job.take(index)
        if source is None:
            return
        started = time.perf_counter()
        image = job.model.decode(source)
        now = time.perf_counter()
        seconds = {"queue": started - job.created, "decode": now - started}
        if isinstance(image, ImageError):  # needs no model
            job.answer(index, job.model.run([job.paths[index]], [image]).select([0]), seconds)
            return
        with self._changed:
            self._ready.setdefault(job.model, deque()).append(_Ready(job, index, image, now, seconds))
            self._changed.notify()

    def _run_forever(self) -> None:
        while batch := self._take():
            self._run(batch)
            del batch

    def _take(self) -> list[_Ready]:
        """The next batch, all of one model; empty when the engine is closed."""
        with self._changed:
            self._idle += 1
            try:
                while True:
                    while not self._ready:
                        if self._closed:
                            return []
                        self._changed.wait()
                    if self.policy.delay:
                        self._wait_for_more()
                    if self._ready:  # else another thread was faster
                        return self._take_share()
            finally:
                self._idle -= 1

    def _wait_for_more(self) -> None:
        """Wait until the oldest image has waited long enough, or there is a full batch."""
        while self._ready and not self._closed:
            oldest = self._oldest()
            left = oldest[0].since + self.policy.delay - time.perf_counter()
            if left <= 0 or len(oldest) >= oldest[0].job.model.max_batch:
                return
            self._changed.wait(left)

    def _take_share(self) -> list[_Ready]:
        waiting = self._oldest()
        share = len(waiting) if self.policy.delay else math.ceil(len(waiting) / self._idle)
        model = waiting[0].job.model
        batch = [waiting.popleft() for _ in range(min(share, model.max_batch))]
        if not waiting:
            del self._ready[model]
        return batch

    def _oldest(self) -> deque[_Ready]:
        return min(self._ready.values(), key=lambda waiting: waiting[0].since)

    def _run(self, batch: list[_Ready]) -> None:
        model = batch[0].job.model
        wanted = [work for work in batch if work.job.wanted]
        if not wanted:
            return
        started = time.perf_counter()
        try:
            paths = [work.job.paths[work.place] for work in wanted]
            predictions = model.run(paths, [work.image for work in wanted])
        except Exception as error:
            for work in wanted:
                work.job.fail(error)
            return
        took = time.perf_counter() - started
        self._on_batch(model, len(wanted), took)
        for row, work in enumerate(wanted):
            waited = {"queue": work.seconds["queue"] + started - work.since, "model": took}
            work.job.answer(work.place, predictions.select([row]), work.seconds | waited)
