"""`Predictor`: pictures in, one answer per picture out, in the order given."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasxfer_serving.errors import ImageError, ModelError
from kerasxfer_serving.images import DecodedImage
from kerasxfer_serving.inputs.input import Input, as_inputs
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.runtime.session import Session, open_session
from kerasxfer_serving.runtime.threads import available_cores

# A larger batch is no faster on a CPU, where each core runs a batch of its own, and takes more memory.
_CPU_BATCH = 8
_GPU_BATCH = 128
_RUNS_AT_ONCE = 2  # per GPU: one uploads while the other computes


class Predictor:
    """Classifies pictures with an ONNX model.

    Safe to use from many threads; can be pickled, and opens its sessions anew where it is unpickled.

    Args:
        model: an `.onnx` file.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"tensorrt"`. Defaults to `"auto"`; see `open_session`.
        gpu_ids: the GPUs to use, taken in turn. Defaults to the first.
        batch_size: pictures in one run of the model. Defaults to the model's own where that is fixed, else 8 on the
            CPU and 128 on a GPU.
        threads: CPU threads of one run. Defaults to all cores this process may use for what fits into one batch, and to
            one a run, with as many runs at once, beyond.
        tf32: see `open_session`.
        cache_dir: see `open_session`.
        features: also return the pooled features, the input of the model's last dense layer. Defaults to `False`.
        manifest: what the model does not say itself, for a model from elsewhere
            (`kerasxfer_serving.model.foreign.describe`).
            Defaults to the model's own manifest, or the one in `<model>.json`.
        sha256: hash that the file must have. Defaults to `None`, not checked.

    Raises:
        DeviceError: the device cannot be had.
        ModelError: the model is refused, or says too little about itself.

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
        gpu_ids: Sequence[int] = (0,),
        batch_size: int | None = None,
        threads: int | None = None,
        tf32: bool = True,
        cache_dir: str | Path | None = None,
        features: bool = False,
        manifest: Manifest | None = None,
        sha256: str | None = None,
    ) -> None:
        self._arguments = {name: value for name, value in locals().items() if name != "self"}
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1. Received: batch_size={batch_size}")
        from kerasxfer_serving.model.foreign import adapt
        from kerasxfer_serving.model.model_file import load_model_file

        file = load_model_file(model, sha256=sha256)
        self.sha256 = file.sha256
        self._bytes, self.manifest, outputs = adapt(file, manifest, features=features)
        self._lock = threading.Lock()
        self._threads = threads
        self._open: dict[str, Any] = {
            "outputs": outputs,
            "batch_size": batch_size or _GPU_BATCH,
            "tf32": tf32,
            "cache_dir": cache_dir,
        }
        first = open_session(self._bytes, device, gpu_id=gpu_ids[0], threads=threads, **self._open)
        self._sessions = {(first.threads, gpu_ids[0]): first}
        self.device = first.device
        self.reason = first.reason
        self.gpu_ids = tuple(gpu_ids) if first.device != "cpu" else (0,)
        self.batch_size = first.fixed_batch or batch_size or _CPU_BATCH
        self._slots = [threading.Semaphore(_RUNS_AT_ONCE) for _ in self.gpu_ids]
        self._turn = 0
        self.stream_threads = threads or 1

    @property
    def session(self) -> Session:
        """The session that a single picture runs in."""
        return self._session(self._threads or available_cores(), self.gpu_ids[0])

    @property
    def workers(self) -> int:
        """Batches worth working on at once."""
        cores = available_cores()
        if self.device == "cpu":
            return max(1, cores // (self._threads or 1))
        return cores + _RUNS_AT_ONCE * len(self.gpu_ids)

    def predict(self, inputs: Any) -> Predictions:
        """Classify pictures.

        Args:
            inputs: a path, encoded bytes, `PIL.Image.Image` or uint8 array `[h, w, 3]`; many of them in a list or other
                iterable; or one uint8 array `[n, h, w, 3]`.

        Returns:
            `Predictions`, one per picture, in the order given. A picture that cannot be read has its code in
            `.status`, `None` for a label and NaN for probabilities.
        """
        from kerasxfer_serving.pipeline import stream

        items = as_inputs(inputs)
        if len(items) <= self.batch_size:
            return self.predict_batch(items)
        return Predictions.concatenate(list(stream(self, items)))

    def predict_batch(self, items: Sequence[Input], *, threads: int | None = None) -> Predictions:
        """Decode, run, and make the answers of one batch: the step that every engine repeats.

        Args:
            items: at most `batch_size` inputs.
            threads: CPU threads to run with. Defaults to those of the predictor.

        Returns:
            `Predictions` in the order of `items`; never an error for a single picture.
        """
        started = time.perf_counter()
        pictures = [self.decode(item) for item in items]
        decoded = time.perf_counter()
        predictions = self.predict_decoded([item.path for item in items], pictures, threads=threads)
        predictions.seconds = {"decode": decoded - started} | predictions.seconds
        return predictions

    def predict_decoded(
        self, paths: list[str], pictures: Sequence[DecodedImage | ImageError], *, threads: int | None = None
    ) -> Predictions:
        """The second half of `predict_batch`: `pictures` are what `decode` returned for the inputs called `paths`."""
        started = time.perf_counter()
        predictions = self._classify(paths, pictures, threads)
        predictions.seconds = {"model": time.perf_counter() - started}
        return predictions

    def stream(self, inputs: Iterable[Input]) -> Iterator[Predictions]:
        """Predict any number of inputs, batch by batch and in order, with bounded memory."""
        from kerasxfer_serving.pipeline import stream

        return stream(self, inputs)

    def decode(self, item: Input) -> DecodedImage | ImageError:
        """Pixels of one input at the model's size, or what is wrong with it."""
        return decode_input(item, self.manifest)

    def run(self, images: NDArray[Any], *, threads: int | None = None) -> list[NDArray[Any]]:
        """Probabilities `[n, classes]`, and features where asked for, of pixels `[n, h, w, 3]` at the model's size."""
        with self._lock:
            self._turn = lane = (self._turn + 1) % len(self.gpu_ids)
        session = self._session(threads or self._threads or available_cores(), self.gpu_ids[lane])
        with nullcontext() if session.device == "cpu" else self._slots[lane]:
            outputs = session.run(images)
        probabilities, *features = (output.reshape(len(images), -1).astype(np.float32) for output in outputs)
        return [self._as_classes(probabilities), *features]

    def describe(self) -> dict[str, Any]:
        """All of the predictor that decides its answers, as plain values."""
        return {
            "model": self.sha256,
            "manifest": self.manifest.to_dict(),
            "device": self.device,
            "tf32": self.session.tf32,
            "threads": self.session.threads,
            "batch_size": self.batch_size,
        }

    def describe_session(self) -> dict[str, Any]:
        """Where and how the model runs: proof of the device."""
        return self.session.describe()

    def close(self) -> None:
        """Let go of the sessions and their memory."""
        self._sessions.clear()

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self._arguments

    def __setstate__(self, arguments: dict[str, Any]) -> None:
        self.__init__(**arguments)  # type: ignore[misc]

    def _classify(
        self, paths: list[str], pictures: Sequence[DecodedImage | ImageError], threads: int | None
    ) -> Predictions:
        height, width = self.manifest.image_size
        images = np.zeros((len(pictures), height, width, 3), np.uint8)
        for row, picture in zip(images, pictures, strict=True):
            if isinstance(picture, DecodedImage):
                row[...] = picture.pixels
        classes = len(self.manifest.class_names)
        if all(isinstance(picture, ImageError) for picture in pictures):
            outputs = [np.empty((len(pictures), classes), np.float32)]
        else:
            # Bad pictures keep their place as black ones: a batch then depends on its inputs only, run after run.
            outputs = self.run(images, threads=threads)
        return Predictions.of_batch(self.manifest.class_names, paths, pictures, outputs)

    def _as_classes(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """One column per class; the one of a sigmoid unit is the second of two classes."""
        classes = len(self.manifest.class_names)
        if probabilities.shape[1] == 1 and classes == 2 and self.manifest.output == "sigmoid":
            return np.concatenate([1 - probabilities, probabilities], axis=1)
        if probabilities.shape[1] != classes:
            raise ModelError(
                f"The model must give one probability for each of its {classes} classes. "
                f"Received: {probabilities.shape[1]} columns, class_names={self.manifest.class_names!r:.200}"
            )
        return probabilities

    def _session(self, threads: int, gpu_id: int) -> Session:
        key = (threads if self.device == "cpu" else 1, gpu_id)
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = open_session(
                    self._bytes, self.device, gpu_id=gpu_id, threads=threads, **self._open
                )
            return self._sessions[key]


def decode_input(item: Input, manifest: Manifest) -> DecodedImage | ImageError:
    """Pixels of one input at the size and in the way that a manifest says, or what is wrong with it."""
    try:
        return manifest.policy.decode(item.open(), manifest.image_size)
    except ImageError as error:
        return error
    except Exception as error:  # whatever a broken file brings about, it is that file's row and nobody else's
        return ImageError("error", f"{type(error).__name__}: {error}")
