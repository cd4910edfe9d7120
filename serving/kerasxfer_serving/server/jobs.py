"""The images of one request on their way through decoding and model."""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io.decoding import Source
from kerasxfer_serving.images import DecodedImage
from kerasxfer_serving.outputs.predictions import Predictions


class Model(Protocol):
    """What the engine asks of a model. It is called from many threads at once."""

    @property
    def max_batch(self) -> int:
        """Most images in one run."""

    def decode(self, source: Source) -> DecodedImage | ImageError:
        """Pixels of one image at the model's size, or what is wrong with it."""

    def run(self, paths: list[str], images: Sequence[DecodedImage | ImageError]) -> Predictions:
        """Answers to one batch."""


@dataclass(eq=False)
class Job:
    """One request: its images, and their answers as they come.

    Args:
        model: The model that answers.
        sources: The images; let go one by one as they are decoded.
        paths: What the images are called in the answer.
        deadline: Time, by `time.monotonic`, after which nobody waits for the answer.
        future: Gets the answers, or the error, in its own event loop.
    """

    model: Model
    sources: list[Source]
    paths: list[str]
    deadline: float
    future: "asyncio.Future[Predictions]"
    error: Exception | None = None
    abandoned: bool = False
    created: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=lambda: {"queue": 0.0, "decode": 0.0, "model": 0.0})

    def __post_init__(self) -> None:
        self._answers: list[Predictions | None] = [None] * len(self.sources)
        self._missing = len(self.sources)
        self._lock = threading.Lock()

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for the answer."""
        return not self.abandoned and self.error is None and time.monotonic() < self.deadline

    def abandon(self) -> None:
        """Nobody waits any longer: let go of what has not begun."""
        self.abandoned = True
        self.sources = []  # their bytes would else stay until a thread comes by

    def take(self, index: int) -> Source | None:
        """One image, which the job then forgets; `None` where nobody wants its answer."""
        if not self.wanted:
            return None
        try:
            source, self.sources[index] = self.sources[index], b""
        except IndexError:  # abandoned by another thread this very moment
            return None
        return source

    def answer(self, index: int, predictions: Predictions, seconds: dict[str, float]) -> None:
        """Note the answer to one image, a row made by `Predictions.select`, and finish with the last."""
        with self._lock:
            self._answers[index] = predictions
            self._missing -= 1
            done = self._missing == 0
            for step, value in seconds.items():
                self.seconds[step] += value
        if done:
            self._finish()

    def fail(self, error: Exception) -> None:
        """Finish with an error."""
        self.error = error
        self._finish()

    def _finish(self) -> None:
        try:
            self.future.get_loop().call_soon_threadsafe(self._settle)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            self.abandon()

    def _settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(Predictions.concatenate([answer for answer in self._answers if answer is not None]))
