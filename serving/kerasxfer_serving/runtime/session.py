"""A model running on a device: what every runtime gives, and all that the rest of the package asks of one."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kerasxfer_serving.errors import ModelError

DEVICES = ("auto", "cpu", "openvino", "cuda", "tensorrt", "fastest")
ON_CPU = ("cpu", "openvino")
CPU_PRECISIONS = ("f32", "bf16")

Outputs = list[NDArray[Any]]


class SessionOptions(NamedTuple):
    """How a session is to run: the arguments of `kerasxfer_serving.runtime.opening.open_session`, by their names."""

    gpu_id: int
    threads: int
    batch_size: int | None
    outputs: Sequence[str] | None
    tf32: bool
    cpu_precision: str
    cache_dir: str | Path | None


class Session(ABC):
    """A model ready to run on batches of images. Made by `open_session`; safe to run from many threads.

    Attributes:
        device: `"cpu"`, `"openvino"`, `"cuda"` or `"tensorrt"`: where it runs.
        runtime: `"onnxruntime"` or `"openvino"`: what runs it.
        reason: Why `device="auto"` or `"fastest"` took this device, or `""`.
        gpu_id: Number of the GPU.
        threads: Threads that one `run` uses on the CPU.
        fixed_batch: The only batch size there is, or `None`: shorter batches are padded, longer ones cut up.
        tf32: Whether CUDA may round float32 products to TF32; `None` on the CPU.
        cpu_precision: `"f32"` or `"bf16"`: what float32 products are computed in on the CPU; `None` on a GPU.
        outputs: Names of the outputs that `run` fetches, in order.
        input_shape: Of the graph's input; what is not a number is open.
    """

    device: str
    runtime: str
    reason: str
    gpu_id: int
    threads: int
    fixed_batch: int | None
    tf32: bool | None
    cpu_precision: str | None
    outputs: list[str]
    input_shape: tuple[int | str | None, ...]
    _dtype: DTypeLike

    @property
    def on_cpu(self) -> bool:
        """Whether the model shares the cores with all else."""
        return self.device in ON_CPU

    @property
    @abstractmethod
    def placement(self) -> dict[str, int]:
        """Number of graph nodes by what runs them, as assigned."""

    def run(self, images: NDArray[Any]) -> Outputs:
        """Run the model.

        Args:
            images: `[n, height, width, 3]`; cast to the graph's input type.

        Returns:
            One array per name in `outputs`, each with `n` rows: padding is cut off again.
        """
        size = self.fixed_batch
        if size is None or len(images) == size:
            return self._run(images)
        chunks = [self._run(_pad(images[start : start + size], size)) for start in range(0, len(images), size)]
        return [np.concatenate(parts)[: len(images)] for parts in zip(*chunks, strict=True)]

    @abstractmethod
    def bind(self, images: NDArray[Any]) -> Callable[[], None]:
        """A function that runs the model on data already on the device, and leaves the results there.

        Args:
            images: One batch, of `fixed_batch` images where there is one.
        """

    def describe(self) -> dict[str, Any]:
        """Where and how the model runs, for reports: proof of the device."""
        return {
            "device": self.device,
            "runtime": self.runtime,
            "reason": self.reason,
            "gpu_id": None if self.on_cpu else self.gpu_id,
            "placement": self.placement,
            "tf32": self.tf32,
            "cpu_precision": self.cpu_precision,
            "threads": self.threads,
            "fixed_batch": self.fixed_batch,
        }

    @abstractmethod
    def close(self) -> None:
        """End runs that are under way, and allow no more: they raise `ModelError`."""

    @abstractmethod
    def _run_on_device(self, images: NDArray[Any]) -> Outputs: ...

    def _run(self, images: NDArray[Any]) -> Outputs:
        images = self._cast(images)
        with self._errors_of_the_model(len(images)):
            return self._run_on_device(images)

    def _cast(self, images: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(images, dtype=self._dtype)

    @contextmanager
    def _errors_of_the_model(self, images: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the runtimes' own errors have no common base below Exception
            name = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[self.runtime]
            raise ModelError(f"The model fails on a batch of {images} images. {name}: {error}") from None


def wish(device: str) -> str:
    """How a message about a device begins."""
    return f"`device={device!r}` is not available"


def executed_precisions(description: Mapping[str, Any]) -> dict[str, int]:
    """Number of nodes by the precision that they ran in, most first; empty where the runtime does not tell.

    Args:
        description: What `Session.describe` gave.
    """
    counts: Counter[str] = Counter()
    for precisions in description.get("executed", {}).values():
        counts.update(precisions)
    return dict(counts.most_common())


def require_outputs(wanted: Sequence[str] | None, types: dict[str, str], floating: Collection[str]) -> list[str]:
    """Names of the outputs to fetch: all of the graph's, or those wanted, which must hold floating-point numbers.

    Args:
        wanted: Names, or `None` for all.
        types: The runtime's names of the types of the graph's outputs, by output.
        floating: Its names of floating-point types.

    Raises:
        ModelError: One that is wanted is not there, or holds something else.
    """
    for name in wanted or ():
        if name not in types:
            raise ModelError(f"The model must have the output `{name}` that is asked for. Received: {list(types)}")
        if types[name] not in floating:
            raise ModelError(f"The model's output `{name}` must hold floating-point numbers. Received: {types[name]}")
    return list(wanted or types)


def require_images(name: str, kind: str, shape: tuple[Any, ...], known: Collection[str]) -> None:
    """Check that a graph's input takes images.

    Args:
        name: Of the input.
        kind: The runtime's name of its type.
        shape: Of the input.
        known: Types that are taken.

    Raises:
        ModelError: If not.
    """
    if kind not in known or len(shape) != 4:
        raise ModelError(
            "The model's input must be images, [batch, height, width, 3] of uint8, float or float16. "
            f"Received: `{name}` {kind} {list(shape)}"
        )


def _pad(images: NDArray[Any], size: int) -> NDArray[Any]:
    missing = size - len(images)
    return np.pad(images, [(0, missing)] + [(0, 0)] * (images.ndim - 1)) if missing else images
