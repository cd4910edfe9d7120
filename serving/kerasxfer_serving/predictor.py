"""`Predictor`: images in, one answer per image out, in the same order."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from kerasxfer_serving.errors import DeviceError, ImageError, ModelError, UsageError
from kerasxfer_serving.image_io import gpu
from kerasxfer_serving.image_io.processes import CHUNK, DecodingProcesses
from kerasxfer_serving.images import DecodedImage, Decoder
from kerasxfer_serving.inputs.input import Batch, Input, as_inputs, decode_input
from kerasxfer_serving.model.adapting import check_probabilities
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.runtime.opening import default_cpu_precision, open_session
from kerasxfer_serving.runtime.resources import available_cores, batched, map_in_order, refuse_oversized_batch
from kerasxfer_serving.runtime.session import Session

# A larger batch is no faster on a CPU, where each core runs a batch of its own, and takes more memory.
_CPU_BATCH = 8
_GPU_BATCH = 128
_RUNS_AT_ONCE = 2  # per GPU: one uploads while the other computes
_MANY_CORES = 4
_DECODING_TOLERANCE = 0.02  # largest difference of a probability that another decoder may make


class PredictorArguments(TypedDict, total=False):
    """The keyword arguments of `Predictor`, for code that makes predictors for others."""

    device: str
    gpu_ids: Sequence[int] | None
    batch_size: int | None
    threads: int | None
    tf32: bool
    cpu_precision: str | None
    cache_dir: str | Path | None
    decode: Decoder | None
    features: bool
    manifest: Manifest | None
    sha256: str | None


class Predictor:
    """Classifies images with an ONNX model.

    Thread-safe. It can be pickled, and opens new sessions after unpickling.

    Args:
        model: An `.onnx` file.
        device: `"auto"`, `"cpu"`, `"openvino"`, `"cuda"`, `"tensorrt"` or `"fastest"`. Defaults to `"auto"`; see
            `open_session`.
        gpu_ids: The GPUs to use, in turn. With `device="auto"`, naming them rules out the CPU. Defaults to
            `None`, the first.
        batch_size: Images per run of the model. Defaults to the model's own if it is fixed, else 8 on the CPU and 128
            on a GPU.
        threads: CPU threads per run. By default, inputs that fit into one batch use all cores available to this
            process, and larger inputs use one thread per run with as many runs at once.
        tf32: See `open_session`.
        cpu_precision: See `open_session`. Defaults to `None`: bfloat16 if OpenVINO runs the model on a CPU that
            supports it, and the manifest says that its answers stay the same (`Manifest.passed_in`); else float32.
        cache_dir: See `open_session`.
        decode_processes: Extra processes that decode the inputs of `stream`; 0 decodes in threads of this process.
            Defaults to `None`: on a GPU, one per core if there are four or more; else 0.
        decode: `"gpu"` decodes and resizes JPEG files on the GPU, `"pillow"` on the CPU (see `ImagePolicy.decoder`).
            Defaults to the manifest's decoder.
        features: Also return the pooled features, the input of the model's last dense layer. Defaults to `False`.
        manifest: Description of a model from elsewhere (`kerasxfer_serving.model.foreign.describe`). Defaults to the
            model's own manifest, or the one in `<model>.json`.
        sha256: Hash that the file must have. Defaults to `None`, not checked.

    Raises:
        DeviceError: The device is not available.
        ModelError: The model is refused, or needs a description.

    Example:

    ```python
    with Predictor("model.onnx") as predictor:
        predictions = predictor.predict(["cat.jpg", "broken.jpg"])
    predictions.status   # ["ok", "truncated"]
    predictions.labels   # ["cats", None]
    ```
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        gpu_ids: Sequence[int] | None = None,
        batch_size: int | None = None,
        threads: int | None = None,
        tf32: bool = True,
        cpu_precision: str | None = None,
        cache_dir: str | Path | None = None,
        decode: Decoder | None = None,
        decode_processes: int | None = None,
        features: bool = False,
        manifest: Manifest | None = None,
        sha256: str | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
        from kerasxfer_serving.model.foreign import adapt
        from kerasxfer_serving.model.model_file import load_model_file

        self._remake = partial(
            Predictor,
            model,
            device=device,
            gpu_ids=gpu_ids,
            batch_size=batch_size,
            threads=threads,
            tf32=tf32,
            cpu_precision=cpu_precision,
            cache_dir=cache_dir,
            decode=decode,
            decode_processes=decode_processes,
            features=features,
            manifest=manifest,
            sha256=sha256,
        )
        file = load_model_file(model, sha256=sha256)
        self.sha256 = file.sha256
        adapted = adapt(file, manifest, features=features)
        self.manifest = adapted.manifest
        if decode is not None:
            self.manifest = replace(self.manifest, policy=replace(self.manifest.policy, decoder=decode))
        self._lock = threading.Lock()
        self._checked = False
        self._threads = threads
        self._open = partial(
            open_session,
            adapted.data,
            outputs=adapted.outputs,
            batch_size=batch_size or _GPU_BATCH,
            tf32=tf32,
            cpu_precision=cpu_precision or default_cpu_precision(device, self.manifest),
            cache_dir=cache_dir,
        )
        first = self._open(device=device, gpu_id=gpu_ids[0] if gpu_ids else None, threads=threads)
        self.device = first.device
        self.reason = first.reason
        self.on_cpu = first.on_cpu
        self.gpu_ids = (0,) if first.on_cpu else tuple(gpu_ids or (0,))
        self._closed = False
        self._sessions = {(first.threads, self.gpu_ids[0]): first}
        self.batch_size = first.fixed_batch or batch_size or _CPU_BATCH
        refuse_oversized_batch(self.batch_size, self.manifest.image_size)
        self._slots = [threading.Semaphore(_RUNS_AT_ONCE) for _ in self.gpu_ids]
        self._turn = 0
        self.stream_threads = threads or 1
        self._gpu_decoder = self._open_gpu_decoder() if self.manifest.policy.decoder == "gpu" else None
        self._decode_processes = self._processes_for(decode_processes)
        self._processes: DecodingProcesses | None = None

    @property
    def session(self) -> Session:
        """The session that runs single images."""
        return self._session(self._threads or available_cores(), self.gpu_ids[0])

    @property
    def workers(self) -> int:
        """Number of batches worth working on at once."""
        cores = available_cores()
        if self.on_cpu:
            return max(1, cores // (self._threads or 1))
        running = _RUNS_AT_ONCE * len(self.gpu_ids)
        if self._gpu_decoder is not None:
            return gpu.LANES + running
        if self._decode_processes:
            return 1 + running + -(-2 * CHUNK * self._decode_processes // self.batch_size)
        return cores + running

    def predict(self, inputs: Any) -> Predictions:
        """Classify images.

        Args:
            inputs: A path, encoded bytes, `PIL.Image.Image` or uint8 array `[h, w, 3]`; many of them in a list or other
                iterable; or one uint8 array `[n, h, w, 3]`.

        Returns:
            `Predictions`, one per image, in the same order. An image that cannot be read has its error code in
            `.status`, the label `None` and NaN probabilities.
        """
        items = as_inputs(inputs)
        if len(items) <= self.batch_size:
            return self.predict_batch(items)
        return Predictions.concatenate(list(self.stream(items)))

    def predict_batch(self, items: Sequence[Input], *, threads: int | None = None) -> Predictions:
        """Decode and run one batch: the step that every engine repeats.

        Args:
            items: At most `batch_size` inputs.
            threads: CPU threads to run with. Defaults to those of the predictor.

        Returns:
            `Predictions` in the order of `items`; a single bad image never raises.
        """
        started = time.perf_counter()
        with self.decoded(items) as images:
            seconds = time.perf_counter() - started
            predictions = self.predict_decoded([item.path for item in items], images, threads=threads)
        predictions.seconds = {"decode": seconds} | predictions.seconds
        return predictions

    def predict_decoded(
        self, paths: list[str], images: Sequence[DecodedImage | ImageError], *, threads: int | None = None
    ) -> Predictions:
        """The second half of `predict_batch`: `images` are the outputs of `decode` for the inputs named `paths`."""
        started = time.perf_counter()
        predictions = self._classify(paths, images, threads)
        predictions.seconds = {"model": time.perf_counter() - started}
        return predictions

    def stream(self, inputs: Iterable[Input], *, workers: int | None = None) -> Iterator[Predictions]:
        """Predict any number of inputs, batch by batch and in order, with bounded memory.

        Each worker decodes a batch and then runs the model on it. So every core stays busy whichever of the two is
        slower, no core waits for another's half-finished operator, and nothing is handed over: measured on two cores,
        two runs with one thread each process 7 % more images than one run with two threads.

        Args:
            inputs: Inputs, consumed only as fast as they are predicted.
            workers: Batches in progress at once. Defaults to `workers`.

        Yields:
            `Predictions` of `batch_size` inputs each, and of the rest, in the order of `inputs`.
        """
        predict = partial(self.predict_batch, threads=self.stream_threads)
        with self.decoding():
            yield from map_in_order(predict, batched(inputs, self.batch_size), workers or self.workers)

    def decode(self, item: Input) -> DecodedImage | ImageError:
        """Decode one input to pixels at the model's size, or return what is wrong with it."""
        return decode_input(item, self.manifest.policy, self.manifest.image_size)

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Decode batches in `decode_processes` inside the context, if the predictor has any."""
        processes = self._decode_processes
        if not processes or self._processes is not None:
            yield
            return
        policy, size = self.manifest.policy, self.manifest.image_size
        with DecodingProcesses(
            size, policy, processes=processes, batch_size=self.batch_size, slots=self.workers
        ) as self._processes:
            try:
                yield
            finally:
                self._processes = None

    def decoded(self, items: Sequence[Input]) -> AbstractContextManager[Batch]:
        """Decode the images of a batch with the predictor's decoder."""
        if self._processes is not None:
            return self._processes.decoded(items)
        if self._gpu_decoder is not None:
            return nullcontext(self._gpu_decoder.decode(items, self.decode))
        return nullcontext(Batch(map(self.decode, items), size=self.manifest.image_size))

    def run(self, images: NDArray[Any], *, threads: int | None = None) -> list[NDArray[Any]]:
        """Probabilities `[n, classes]`, and features where asked for, of pixels `[n, h, w, 3]` at the model's size."""
        with self._lock:
            self._turn = lane = (self._turn + 1) % len(self.gpu_ids)
        session = self._session(threads or self._threads or available_cores(), self.gpu_ids[lane])
        with nullcontext() if session.on_cpu else self._slots[lane]:
            outputs = session.run(images)
        probabilities, *features = (_as_rows(output, len(images)) for output in outputs)
        if not self._checked:  # on the first batch: what a manifest says is not believed
            check_probabilities(probabilities, self.manifest)
            self._checked = True
        return [self._as_classes(probabilities), *features]

    def describe(self) -> dict[str, Any]:
        """Everything that decides the predictor's answers, as plain values."""
        return {
            "model": self.sha256,
            "manifest": self.manifest.to_dict(),
            "device": self.device,
            "runtime": self.session.runtime,
            "cpu_precision": self.session.cpu_precision,
            "tf32": self.session.tf32,
            "threads": self.session.threads,
            "batch_size": self.batch_size,
        }

    def describe_session(self) -> dict[str, Any]:
        """Where and how images are decoded and the model runs, as proof of the device."""
        return self.session.describe() | {"decoding": self.describe_decoding()}

    def describe_decoding(self) -> dict[str, Any]:
        """The decoder in use; for a GPU, its distance from Pillow and how many images it left to Pillow."""
        policy = self.manifest.policy
        if self._gpu_decoder is None:
            return {"decoder": policy.decoder, "processes": self._decode_processes}
        distance = {"difference": self._decoding_difference, "decoded_by_pillow": self._gpu_decoder.fallbacks}
        return {"decoder": policy.decoder} | distance

    def close(self) -> None:
        """Release the sessions and their memory. Runs in progress end with `ModelError`."""
        with self._lock:
            self._closed = True
            for session in self._sessions.values():
                session.close()
            self._sessions.clear()

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple["partial[Predictor]", tuple[()]]:
        return self._remake, ()

    def _processes_for(self, wanted: int | None) -> int:
        """On a CPU the model keeps the cores busy by itself; a GPU waits for images."""
        cores = available_cores()
        if wanted is not None:
            return wanted
        return cores if not self.on_cpu and self._gpu_decoder is None and cores >= _MANY_CORES else 0

    def _open_gpu_decoder(self) -> gpu.GpuDecoder:
        """The decoder on the first GPU, if its pixels and the model's answers to them are close enough to Pillow's."""
        if self.on_cpu:
            raise DeviceError(f"`decode='gpu'` needs the model on a GPU too. Received: device={self.device!r}")
        decoder, pairs = gpu.checked_decoder(self.manifest.image_size, self.manifest.policy, self.gpu_ids[0])
        ours, pillow = (self.run(np.stack(images))[0] for images in zip(*pairs, strict=True))
        apart = float(np.abs(ours - pillow).max())
        if not apart <= _DECODING_TOLERANCE:
            raise DeviceError(
                f"`decode='gpu'` is refused: on the golden images the model's probabilities differ by {apart:.3g} from "
                f"those with Pillow's pixels, more than {_DECODING_TOLERANCE}. Leave `decode` at 'pillow'."
            )
        self._decoding_difference = decoder.difference | {"probability": apart}
        return decoder

    def _classify(
        self, paths: list[str], images: Sequence[DecodedImage | ImageError], threads: int | None
    ) -> Predictions:
        batch = images if isinstance(images, Batch) else Batch(images, size=self.manifest.image_size)
        classes = len(self.manifest.class_names)
        if all(isinstance(image, ImageError) for image in images):
            outputs = [np.empty((len(images), classes), np.float32)]
        else:
            # Bad images keep their place as black ones: a batch then depends on its inputs only, run after run.
            outputs = self.run(batch.pixels, threads=threads)
        return Predictions.of_batch(
            self.manifest.class_names, paths, images, outputs, thresholds=self.manifest.thresholds
        )

    def _as_classes(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Expand to one column per class; a sigmoid unit gives the second of two classes."""
        classes = len(self.manifest.class_names)
        if (
            probabilities.shape[1] == 1
            and classes == 2
            and self.manifest.output == "sigmoid"
            and not self.manifest.is_multi_label
        ):
            return np.concatenate([1 - probabilities, probabilities], axis=1)
        if probabilities.shape[1] != classes:
            raise ModelError(
                f"The model must give one probability for each of its {classes} classes. "
                f"Received: {probabilities.shape[1]} columns, class_names={self.manifest.class_names!r:.200}"
            )
        return probabilities

    def _session(self, threads: int, gpu_id: int) -> Session:
        key = (threads if self.on_cpu else 1, gpu_id)
        with self._lock:
            if self._closed:  # or a thread that was decoding would open one that nobody ends
                raise ModelError("The predictor is closed. Create a new one.")
            if key not in self._sessions:
                self._sessions[key] = self._open(device=self.device, gpu_id=gpu_id, threads=threads)
            return self._sessions[key]


def _as_rows(output: NDArray[Any], images: int) -> NDArray[np.float32]:
    if output.shape[:1] != (images,):
        raise ModelError(
            f"The model must give one row of figures for each image. Received: an output of shape {output.shape} for "
            f"{images} images"
        )
    return output.reshape(images, -1).astype(np.float32)
