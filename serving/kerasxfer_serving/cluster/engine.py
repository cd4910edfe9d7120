"""Prediction on a Ray cluster: decoding on all cores, predictors on cores or GPUs, one writer.

What a worker does is a function of its images, and leaves nothing behind. Answers come back to this process, which
puts them in order and hands them to the same writer as a single machine would: so no row can be lost or written twice,
whoever dies, and a run can be resumed on a cluster or off it.

The stages are Ray's tasks and actors, not a `ray.data.Dataset`. A dataset wants its whole list before it begins; a task
whose process dies is repeated for ever or, with a limit, takes all of its rows along, and does not say which of them it
was. Here the driver holds every piece of work until it is answered, and cuts in two the one that kills.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Unpack

from kerasxfer_serving.cluster.chunks import Chunk, Piece, divide, is_here
from kerasxfer_serving.cluster.pool import DECODING_SHARE, Pool, Worker
from kerasxfer_serving.cluster.workers import Receipt, decode, decoder_hash
from kerasxfer_serving.errors import ImageError, KerasxferError
from kerasxfer_serving.inputs.input import Input
from kerasxfer_serving.model.foreign import adapt
from kerasxfer_serving.model.model_file import load_model_file
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.predictor import PredictorArguments
from kerasxfer_serving.runtime.session import ON_CPU

_DEATHS = 3  # of a single image, two of them alone: a machine that goes away takes innocent ones along
_FAILURES = 5
_AHEAD = 1024  # chunks that may be done before the one that is to be written next


class RayPredictor:
    """Classifies images with many predictors on a Ray cluster, and answers as one `Predictor` does.

    Args:
        ray: The module, connected to a cluster (`kerasxfer_serving.cluster.ray.start`).
        model: An `.onnx` file, which only this machine needs to have.
        num_workers: Predictors. Defaults to as many as the cluster has room for, also when it grows or shrinks.
        gpus_per_worker: GPUs of each. Defaults to 1 where the cluster has any and `device` is none on the CPU, else 0.
        tune: Measure the best batch size, where none is given. Defaults to `False`.
        **predictor: Arguments of `Predictor`; `threads` defaults to 1, and Ray gives out `gpu_ids`.

    Attributes:
        manifest: Of the model.
        batch_size: Of each run of the model.
        device: Of every predictor.

    Raises:
        KerasxferError: The cluster has no room for one predictor, or the predictor cannot be made.

    Example:

    ```python
    from kerasxfer_serving.cluster import ray as ray_cluster
    from kerasxfer_serving.inputs.reader import Reader

    with ray_cluster.start(num_cpus=2) as ray, RayPredictor(ray, "model.onnx") as predictor:
        for predictions in predictor.stream(Reader(["photos/"])):
            print(predictions.paths, predictions.labels)
    ```
    """

    def __init__(
        self,
        ray: ModuleType,
        model: str | Path,
        *,
        num_workers: int | None = None,
        gpus_per_worker: float | None = None,
        tune: bool = False,
        **predictor: Unpack[PredictorArguments],
    ) -> None:
        file = load_model_file(model, sha256=predictor.pop("sha256", None))
        self.manifest = adapt(file, predictor.get("manifest") or file.manifest).manifest
        if gpus_per_worker is None:
            on_gpus = predictor.get("device") not in ON_CPU and ray.cluster_resources().get("GPU", 0) > 0
            gpus_per_worker = float(on_gpus)
        threads = predictor.get("threads") or 1
        gpu_ids = tuple(range(math.ceil(gpus_per_worker))) or None  # as Ray numbers them for each worker
        predictor |= {"manifest": self.manifest, "gpu_ids": gpu_ids, "threads": threads}
        self._ray = ray
        self._pool = Pool(
            ray,
            file.path.name,
            ray.put(file.data),
            predictor,
            limit=num_workers,
            gpus=gpus_per_worker,
            threads=threads,
        )
        self._decode = ray.remote(decode).options(
            num_cpus=1 if gpus_per_worker else DECODING_SHARE,
            num_returns=2,
            max_retries=0,
            scheduling_strategy="SPREAD",
        )
        try:
            first = self._pool.open_first(tune=tune)
        except BaseException:
            self._pool.close()
            raise
        self._first = first
        self.sha256: str = first.description["model"]
        self.device: str = first.description["device"]
        self.batch_size: int = first.description["batch_size"]
        self._pool.fix(first.description, device=self.device, batch_size=self.batch_size)

    @property
    def workers(self) -> int:
        """Cores of the cluster: pieces worth working on at once."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def describe(self) -> dict[str, Any]:
        """All that decides the answers, as plain values; as of `Predictor`."""
        return self._first.description

    def describe_session(self) -> dict[str, Any]:
        """Where and how the model runs in the first predictor; as of `Predictor`."""
        return self._first.session

    def stream(self, inputs: Iterable[Input]) -> Iterator[Predictions]:
        """Predict any number of inputs, chunk by chunk and in order, with bounded memory.

        Raises:
            KerasxferError: The same images failed again and again, and it is none of them to blame; or a machine
                decodes otherwise than the others, or does not see the files.
        """
        chunks = divide(inputs, self.batch_size)
        yield from _Run(self._ray, self._pool, self._decode, self.manifest, chunks, self.workers)

    def close(self) -> None:
        """Let go of the predictors."""
        self._pool.close()

    def __enter__(self) -> "RayPredictor":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class _Run:
    """One stream of chunks through the two stages. All decisions are made here, in one thread."""

    def __init__(
        self, ray: ModuleType, pool: Pool, decode: Any, manifest: Any, chunks: Iterator[Chunk], cores: int
    ) -> None:
        self._ray, self._pool, self._decode = ray, pool, decode
        self._manifest = ray.put(manifest)
        self._chunks = chunks
        self._cores = cores
        self._decoder = decoder_hash(manifest)
        self._folder = str(Path.cwd())
        self._in_order: deque[Chunk] = deque()
        self._to_decode: deque[tuple[Chunk, Piece]] = deque()
        self._to_predict: deque[Chunk] = deque()
        self._decoding: dict[Any, tuple[Chunk, Piece, Any]] = {}
        self._predicting: dict[Any, tuple[Chunk, Worker]] = {}
        self._unpredicted = 0

    def __iter__(self) -> Iterator[Predictions]:
        try:
            while self._take() or self._in_order:
                self._pool.adjust(self._unpredicted)
                self._send()
                self._receive()
                while self._in_order and self._in_order[0].predictions is not None:
                    yield self._in_order.popleft().predictions  # type: ignore[misc]
        finally:
            for ref in (*self._decoding, *self._predicting):
                self._ray.cancel(ref)
            for _, worker in self._predicting.values():
                worker.chunks -= 1

    def _take(self) -> bool:
        """Begin with chunks as long as there is room for their pixels; returns whether there was one."""
        room = self._cores + self._pool.in_hand * max(1, len(self._pool.workers))
        before = self._unpredicted
        while self._unpredicted < room and len(self._in_order) < _AHEAD and (chunk := next(self._chunks, None)):
            self._in_order.append(chunk)
            self._to_decode.extend((chunk, piece) for piece in chunk.pieces)
            self._unpredicted += 1
        return self._unpredicted > before

    def _send(self) -> None:
        while self._to_decode and len(self._decoding) < self._cores + 2:
            chunk, piece = self._to_decode.popleft()
            images, receipt = self._decode.remote(piece.items, self._manifest, self._folder)
            self._decoding[receipt] = chunk, piece, images
        while self._to_predict:
            chunk = self._to_predict[0]
            worker = self._pool.free({piece.node for piece in chunk.pieces})
            if worker is None:
                break
            self._to_predict.popleft()
            worker.chunks += 1
            pieces = (piece.images for piece in chunk.pieces)
            self._predicting[worker.actor.predict.remote(chunk.paths, *pieces)] = chunk, worker

    def _receive(self) -> None:
        """Wait for something to end, and take in all that has ended."""
        refs = [*self._predicting, *self._decoding, *self._pool.opening]
        if not refs:
            return
        self._ray.wait(refs, timeout=1.0, fetch_local=False)
        for ref in self._ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)[0]:
            if ref in self._predicting:
                self._predicted(ref, *self._predicting.pop(ref))
            elif ref in self._decoding:
                self._decoded(ref, *self._decoding.pop(ref))
            else:
                self._pool.opened(ref)

    def _decoded(self, ref: Any, chunk: Chunk, piece: Piece, images: Any) -> None:
        try:
            receipt: Receipt = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._raise_if_ours(error)
            self._retry_or_split(chunk, piece)
        else:
            self._check(receipt, piece)
            piece.images, piece.seconds, piece.node = images, receipt.seconds, receipt.node
        if chunk.decoded:
            self._to_predict.append(chunk)

    def _retry_or_split(self, chunk: Chunk, piece: Piece) -> None:
        """A worker died over a piece: try again, then halves of it; a single image is given up in the end."""
        piece.deaths += 1
        if piece.deaths > 1 and len(piece.items) > 1:
            self._to_decode.extendleft((chunk, half) for half in reversed(chunk.bisect(piece)))
        elif piece.deaths < _DEATHS:
            self._to_decode.appendleft((chunk, piece))
        else:
            message = f"{piece.items[0].path!r} ended every process that decoded it"
            piece.images = [ImageError("worker_died", message)]

    def _predicted(self, ref: Any, chunk: Chunk, worker: Worker) -> None:
        worker.chunks -= 1
        try:
            chunk.predictions = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._raise_if_ours(error)
            self._begin_anew(chunk, worker, error)
            return
        chunk.predictions.seconds["decode"] = sum(piece.seconds for piece in chunk.pieces)
        chunk.pieces.clear()
        self._unpredicted -= 1

    def _begin_anew(self, chunk: Chunk, worker: Worker, error: Exception) -> None:
        """The predictor died, or the machine with the pixels: begin the chunk anew."""
        if isinstance(error, self._ray.exceptions.RayActorError):
            self._pool.lost(worker)
        chunk.failures += 1
        if chunk.failures == _FAILURES:
            raise KerasxferError(
                f"Predicting {len(chunk.paths)} images from {chunk.paths[0]!r} on failed {_FAILURES} times, last: "
                f"{str(error).strip()[:500]}"
            ) from error
        for piece in chunk.pieces:
            if not isinstance(piece.images, list):  # of one that was given up there is nothing to decode
                piece.images = None
                self._to_decode.appendleft((chunk, piece))
        if chunk.decoded:
            self._to_predict.appendleft(chunk)

    def _check(self, receipt: Receipt, piece: Piece) -> None:
        if receipt.decoder != self._decoder:
            raise KerasxferError(
                f"{receipt.machine} decodes the golden images unlike this machine: rows would depend on where "
                "they are made. Install the same Pillow on every machine."
            )
        if receipt.all_missing and is_here(piece.items[0]):
            raise KerasxferError(
                f"{receipt.machine} cannot see {piece.items[0].path!r}, which this machine has. "
                "Put the images where every machine has them under the same path, or in object storage."
            )

    def _raise_if_ours(self, error: Any) -> None:
        """Raise what code of ours raised on a worker; what befell the worker is dealt with."""
        if isinstance(error, self._ray.exceptions.RayTaskError) and not isinstance(
            error.cause, self._ray.exceptions.RayError
        ):
            raise error.cause if isinstance(error.cause, KerasxferError) else error
