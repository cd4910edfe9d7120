"""The server apart from any protocol: models, engine, limits and figures. HTTP, gRPC and Ray Serve stand on it."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TypeAlias

from kerasxfer_serving.image_io.decoding import Source
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.server.bodies import Memory
from kerasxfer_serving.server.engine import BatchingEngine
from kerasxfer_serving.server.errors import ClientGoneError, DeadlineError, OverloadedError, RequestError, TooLargeError
from kerasxfer_serving.server.jobs import Job, Model
from kerasxfer_serving.server.metrics import Metrics
from kerasxfer_serving.server.models import ServedModel, batch_policy, open_model
from kerasxfer_serving.server.options import ServerOptions
from kerasxfer_serving.server.registry import Models, Registry, as_sources
from kerasxfer_serving.server.watching import Watcher

Gone: TypeAlias = Callable[[], Coroutine[None, None, None]]


class InferenceServer:
    """Answers requests with models. Made by `create_app`, which speaks HTTP for it.

    Args:
        models: See `create_app`.
        options: Limits and device.
        watch: Whether changed model files are reloaded.

    Raises:
        KerasxferError: A model cannot be served.
    """

    def __init__(self, models: Models, options: ServerOptions, *, watch: bool = False) -> None:
        self.options = options
        self.registry = Registry()
        self.metrics = Metrics()
        self.memory = Memory(options.max_waiting_bytes)
        self.draining = False
        self._waiting = 0
        sources = as_sources(models)
        for source in sources:
            for version, path in source.versions().items():
                self.registry.put(self._open(source.name, version, path))
        served = list(self.registry.models())
        self._engine = BatchingEngine(options.cores, batch_policy(served, options), self._count_batch)
        self._watcher = Watcher(sources, self.registry, self._open) if watch else None

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return not self.draining

    async def predict(
        self,
        model: ServedModel,
        images: Sequence[Source],
        names: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
        gone: Gone | None = None,
    ) -> Predictions:
        """Answer one request.

        Args:
            model: What answers, from `registry.find`.
            images: Encoded images, or uint8 arrays `[h, w, 3]`.
            names: What the images are called in the answer. Defaults to their numbers, `[0]` and on.
            timeout: Seconds that the client waits. Defaults to, and is at most, `options.timeout`.
            gone: Returns when the client has left, and with it the wish for an answer. Defaults to `None`: it stays.

        Returns:
            `Predictions`, one per image, in the order given.

        Raises:
            RequestError: No image or too many, too much work, no time left, or nobody there.
        """
        seconds = min(timeout or self.options.timeout, self.options.timeout)
        started = time.perf_counter()
        self._admit(len(images))
        if not model.begin():  # replaced while the request arrived
            model = self.registry.find(model.name, model.version)
            model.begin()
        try:
            job = self._submit(model, images, names, seconds)
            predictions = await self._answer(job, seconds, gone)
        except (Exception, asyncio.CancelledError):
            model.statistics.add_request(len(images), time.perf_counter() - started, None)
            raise
        finally:
            self._waiting -= len(images)
            self.metrics.waiting.set(self._waiting)
            model.end()
        model.statistics.add_request(len(images), time.perf_counter() - started, job.seconds)
        self.metrics.count_answer(model.name, predictions.status, job.seconds)
        return predictions

    def close(self) -> None:
        """End the threads and let go of the models."""
        if self._watcher:
            self._watcher.close()
        self._engine.close()

    def _admit(self, images: int) -> None:
        """Accept a request of so many images, or say that it is too much."""
        if images == 0:
            raise RequestError("No image was sent.")
        if images > self.options.max_images:
            raise TooLargeError(f"A request has at most {self.options.max_images} images. Received: {images}")
        if self._waiting and self._waiting + images > self.options.max_waiting:
            raise OverloadedError(
                f"{self._waiting} images wait already, at most {self.options.max_waiting} may. Retry."
            )
        self._waiting += images
        self.metrics.waiting.set(self._waiting)

    def _submit(self, model: ServedModel, images: Sequence[Source], names: Sequence[str] | None, seconds: float) -> Job:
        loop = asyncio.get_running_loop()
        job = Job(
            model,
            list(images),
            list(names) if names is not None else [f"[{index}]" for index in range(len(images))],
            time.monotonic() + seconds,
            loop.create_future(),
        )
        self._engine.submit(job)
        return job

    async def _answer(self, job: Job, seconds: float, gone: Gone | None) -> Predictions:
        future = job.future
        watch = asyncio.create_task(gone()) if gone else None
        if watch:
            watch.add_done_callback(lambda _: job.fail(ClientGoneError("The client has left.")))
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise DeadlineError(f"No answer within {seconds:g} s.") from None
        finally:
            job.abandon()
            if watch:
                watch.cancel()

    def _open(self, name: str, version: str, path: Path) -> ServedModel:
        model = open_model(name, version, path, self.options)
        self.metrics.loaded(model)
        return model

    def _count_batch(self, model: Model, images: int, seconds: float) -> None:
        if isinstance(model, ServedModel):
            model.statistics.add_run(images, seconds)
            self.metrics.batch.labels(model.name).observe(images)
