"""A model running in ONNX Runtime on a device that was asked for, or an error: never silently on another.

ONNX Runtime itself falls back: a CUDA provider that does not load leaves a working CPU session, a line in the log, and
`get_available_providers()` still says CUDA. So the device is looked at before, and the session after, it is made.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kerasxfer_serving.errors import DeviceError, ModelError, UsageError
from kerasxfer_serving.runtime.gpu_graph import tune_for_gpu
from kerasxfer_serving.runtime.providers import DEVICES, PROVIDERS, provider_list, require_device, wish
from kerasxfer_serving.runtime.threads import available_cores

if TYPE_CHECKING:
    import onnxruntime

_DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
_OUTPUT_TYPES = {"tensor(float)", "tensor(float16)", "tensor(double)"}
_ERRORS_ONLY = 3
_FATAL_ONLY = 4

Outputs = list[NDArray[Any]]


class Session:
    """A model ready to run on batches of images. Made by `open_session`; safe to run from many threads.

    Attributes:
        raw: The `onnxruntime.InferenceSession`.
        device: `"cpu"`, `"cuda"` or `"tensorrt"`: where it runs.
        reason: Why `device="auto"` took this device, or `""`.
        gpu_id: Number of the GPU.
        threads: Threads that one `run` uses on the CPU.
        fixed_batch: The only batch size there is, or `None`: shorter batches are padded, longer ones cut up.
        tf32: Whether CUDA may round float32 products to TF32; `None` on the CPU.
        placement: Number of graph nodes by provider, as assigned.
        outputs: Names of the outputs that `run` fetches, in order.
    """

    def __init__(self, raw: "onnxruntime.InferenceSession", device: str, reason: str, how: "_How") -> None:
        import onnxruntime

        self.raw = raw
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = _FATAL_ONLY  # what fails is raised, once
        self.device = device
        self.reason = reason
        self.gpu_id = how.gpu_id
        self.threads = how.threads
        self.tf32 = None if device == "cpu" else how.tf32
        self.outputs = _checked_outputs(raw, how.outputs)
        self.placement = _placement(raw)
        (entry,) = raw.get_inputs()
        if entry.type not in _DTYPES or len(entry.shape) != 4:
            raise ModelError(
                "The model's input must be images, [batch, height, width, 3] of uint8, float or float16. "
                f"Received: `{entry.name}` {entry.type} {entry.shape}"
            )
        self.input_name = entry.name
        self.input_shape: tuple[int | str | None, ...] = tuple(entry.shape)
        self._dtype = _DTYPES[entry.type]
        self.fixed_batch = entry.shape[0] if isinstance(entry.shape[0], int) else how.batch_size

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

    def bind(self, images: NDArray[Any]) -> Callable[[], None]:
        """A function that runs the model on data already on the device, and leaves the results there.

        Args:
            images: One batch, of `fixed_batch` images where there is one.
        """
        import onnxruntime

        place = ("cpu", 0) if self.device == "cpu" else ("cuda", self.gpu_id)
        data = onnxruntime.OrtValue.ortvalue_from_numpy(self._cast(images), *place)
        binding = self.raw.io_binding()
        binding.bind_ortvalue_input(self.input_name, data)
        for name in self.outputs:
            binding.bind_output(name, *place)

        def run() -> None:
            with _errors_of_the_model(len(images)):
                self.raw.run_with_iobinding(binding, self._run_options)
                binding.synchronize_outputs()

        return run

    def describe(self) -> dict[str, Any]:
        """Where and how the model runs, for reports: proof of the device."""
        return {
            "device": self.device,
            "reason": self.reason,
            "gpu_id": None if self.device == "cpu" else self.gpu_id,
            "providers": self.raw.get_providers(),
            "provider_options": self.raw.get_provider_options(),
            "placement": self.placement,
            "tf32": self.tf32,
            "threads": self.threads,
            "fixed_batch": self.fixed_batch,
        }

    def close(self) -> None:
        """End runs that are under way, and allow no more: they raise `ModelError`."""
        self._run_options.terminate = True

    def _run(self, images: NDArray[Any]) -> Outputs:
        images = self._cast(images)
        with _errors_of_the_model(len(images)):
            return self._run_on_device(images)

    def _run_on_device(self, images: NDArray[Any]) -> Outputs:
        if self.device == "cpu":
            return list(self.raw.run(self.outputs, {self.input_name: images}, self._run_options))
        binding = self.raw.io_binding()
        binding.bind_cpu_input(self.input_name, images)  # uploads the pixels as they are, a byte a sample
        for name in self.outputs:
            binding.bind_output(name, "cuda", self.gpu_id)
        self.raw.run_with_iobinding(binding, self._run_options)
        return list(binding.copy_outputs_to_cpu())

    def _cast(self, images: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(images, dtype=self._dtype)


def open_session(
    model: str | Path | bytes,
    device: str = "auto",
    *,
    gpu_id: int | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    outputs: Sequence[str] | None = None,
    tf32: bool = True,
    cache_dir: str | Path | None = None,
) -> Session:
    """Open a model on a device.

    Args:
        model: An `.onnx` file, or the bytes of one that was checked already.
        device: `"cpu"`, `"cuda"`, `"tensorrt"`, or `"auto"`: CUDA where it starts, else the CPU, and `.reason` says
            why. Defaults to `"auto"`.
        gpu_id: Which GPU; naming one rules out the CPU where `device="auto"`. Defaults to `None`, the first.
        threads: Threads of one run on the CPU. Defaults to the cores this process may use.
        batch_size: The one batch size a GPU is to see, since it searches its algorithms anew for every shape. Ignored
            on the CPU. Defaults to `None`, any size.
        outputs: Names of the outputs to fetch. Defaults to all, in the graph's order.
        tf32: Whether CUDA may round float32 products to TF32. Defaults to `True`, as ONNX Runtime does.
        cache_dir: Where TensorRT keeps engines and timings between runs. Defaults to `None`, nowhere.

    Returns:
        A `Session`.

    Raises:
        DeviceError: The device is not available.
        ModelError: The file is refused, or ONNX Runtime cannot load it.

    Example:

    ```python
    session = open_session("model.onnx", "cpu", threads=2)
    (probabilities,) = session.run(np.zeros((1, 150, 150, 3), "uint8"))
    ```
    """
    if device not in DEVICES:
        raise UsageError(f"`device` must be one of {DEVICES}. Received: device={device!r}")
    if not isinstance(model, bytes):
        from kerasxfer_serving.model.model_file import load_model_file

        model = load_model_file(model).data
    if device == "tensorrt" and not tf32:
        raise UsageError(
            "`tf32=False` is for `device='cuda'`: ONNX Runtime has no such switch for TensorRT. Set the environment "
            "variable `NVIDIA_TF32_OVERRIDE=0` instead."
        )
    how = _How(gpu_id or 0, threads or available_cores(), batch_size, outputs, tf32, cache_dir)
    if device != "auto":
        return _open(model, device, how)
    try:
        return _open(model, "cuda", how, reason="a GPU is there")
    except DeviceError as error:
        if gpu_id is not None:
            raise
        reason = str(error).removeprefix(f"{wish('cuda')}: ").partition(". ")[0]
        return _open(model, "cpu", how, reason=f"no CUDA: {reason}")


class _How(NamedTuple):
    gpu_id: int
    threads: int
    batch_size: int | None
    outputs: Sequence[str] | None
    tf32: bool
    cache_dir: str | Path | None


def _open(model: bytes, device: str, how: _How, reason: str = "") -> Session:
    gpu = device != "cpu"
    if gpu:
        require_device(device, how.gpu_id)
        how = how._replace(threads=1)  # the host only launches kernels
    else:
        how = how._replace(batch_size=None)
    raw = _create(
        tune_for_gpu(model) if device == "cuda" else model,
        _session_options(model, gpu, how),
        provider_list(device, gpu_id=how.gpu_id, tf32=how.tf32, cache_dir=how.cache_dir),
    )
    if raw.get_providers()[0] != PROVIDERS[device]:
        raise DeviceError(
            f"{wish(device)}: ONNX Runtime lists {PROVIDERS[device]} and cannot start it, mostly for "
            "want of CUDA or cuDNN libraries. Install them with `pip install 'onnxruntime-gpu[cuda,cudnn]'`; "
            "`kerasxfer-serving env` says what is missing."
        )
    return Session(raw, device, reason, how)


def _session_options(model: bytes, gpu: bool, how: _How) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = how.threads
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Bytes can be an ONNX file and, to ONNX Runtime's guess, one of its own format too: what was checked is what runs.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if gpu:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if how.batch_size is not None and (name := _open_batch_dimension(model)):
        options.add_free_dimension_override_by_name(name, how.batch_size)
    return options


def _open_batch_dimension(model: bytes) -> str | None:
    import onnx

    graph = onnx.load_model_from_string(model).graph
    constants = {tensor.name for tensor in graph.initializer}
    value = next(value for value in graph.input if value.name not in constants)
    name: str = value.type.tensor_type.shape.dim[0].dim_param
    return name or None


def _create(model: bytes, options: Any, providers: list[Any]) -> Any:
    import onnxruntime

    try:
        raw = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own errors have no common base below Exception
        raise ModelError(f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {error}") from error
    raw.disable_fallback()  # else a provider that fails later would be replaced by the CPU in mid-run
    return raw


@contextmanager
def _errors_of_the_model(images: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's own errors have no common base below Exception
        raise ModelError(f"The model fails on a batch of {images} images. ONNX Runtime: {error}") from None


def _checked_outputs(raw: Any, wanted: Sequence[str] | None) -> list[str]:
    """Names of the outputs to fetch: all of the graph's, or those wanted, which must hold floating-point numbers.

    Raises:
        ModelError: One that is wanted is not there, or holds something else.
    """
    types = {output.name: output.type for output in raw.get_outputs()}
    for name in wanted or ():
        if name not in types:
            raise ModelError(f"The model must have the output `{name}` that is asked for. Received: {list(types)}")
        if types[name] not in _OUTPUT_TYPES:
            raise ModelError(f"The model's output `{name}` must hold floating-point numbers. Received: {types[name]}")
    return list(wanted or types)


def _placement(raw: Any) -> dict[str, int]:
    nodes: Counter[str] = Counter()
    for subgraph in raw.get_provider_graph_assignment_info():
        nodes[subgraph.ep_name] += len(subgraph.get_nodes())
    return dict(nodes)


def _pad(images: NDArray[Any], size: int) -> NDArray[Any]:
    missing = size - len(images)
    return np.pad(images, [(0, missing)] + [(0, 0)] * (images.ndim - 1)) if missing else images
