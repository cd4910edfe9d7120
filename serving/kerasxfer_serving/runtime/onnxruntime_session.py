"""ONNX Runtime on a device that was asked for, or an error: never silently on another.

ONNX Runtime itself falls back: a CUDA provider that does not load leaves a working CPU session, a line in the log, and
`get_available_providers()` still says CUDA. So the device is looked at before, and the session after, it is made.
"""

from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerasxfer_serving.errors import DeviceError, ModelError, UsageError
from kerasxfer_serving.runtime.gpu_graph import tune_for_gpu
from kerasxfer_serving.runtime.resources import cuda_devices
from kerasxfer_serving.runtime.session import Outputs, Session, SessionOptions, require_images, require_outputs, wish

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

# Measured on an H100 (`benchmarks/gpu.py`): channels last and the bias inside the convolution make VGG16 1.7 and
# InceptionV3 1.4 times as fast as ONNX Runtime's defaults; searching for algorithms exhaustively adds nothing to that.
CUDA_OPTIONS: dict[str, str | int] = {
    "prefer_nhwc": 1,
    "fuse_conv_bias": 1,
    "cudnn_conv_algo_search": "HEURISTIC",
}

_DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
_OUTPUT_TYPES = {"tensor(float)", "tensor(float16)", "tensor(double)"}
_ERRORS_ONLY = 3
_FATAL_ONLY = 4


class OnnxRuntimeSession(Session):
    """A model in ONNX Runtime.

    Args:
        model: Bytes of an ONNX file that was checked.
        device: `"cpu"`, `"cuda"` or `"tensorrt"`.
        options: How it is to run.
        reason: Why this device was taken.

    Attributes:
        raw: The `onnxruntime.InferenceSession`.

    Raises:
        DeviceError: The device is not available.
        ModelError: ONNX Runtime cannot load the model.
    """

    runtime = "onnxruntime"

    def __init__(self, model: bytes, device: str, options: SessionOptions, reason: str = "") -> None:
        gpu = device != "cpu"
        if gpu:
            require_device(device, options.gpu_id)
            options = options._replace(threads=1)  # the host only launches kernels
        elif options.cpu_precision != "f32":
            raise UsageError(
                f"`cpu_precision={options.cpu_precision!r}` is for `device='openvino'`: ONNX Runtime computes in "
                "float32 on the CPU."
            )
        else:
            options = options._replace(batch_size=None)
        self.raw = _open(model, device, options)
        self.device = device
        self.reason = reason
        self.gpu_id = options.gpu_id
        self.threads = options.threads
        self.tf32 = options.tf32 if gpu else None
        self.cpu_precision = None if gpu else options.cpu_precision
        types = {output.name: output.type for output in self.raw.get_outputs()}
        self.outputs = require_outputs(options.outputs, types, _OUTPUT_TYPES)
        (entry,) = self.raw.get_inputs()
        self.input_shape = tuple(entry.shape)
        require_images(entry.name, entry.type, self.input_shape, _DTYPES)
        self._input_name = entry.name
        self._dtype = _DTYPES[entry.type]
        self.fixed_batch = entry.shape[0] if isinstance(entry.shape[0], int) else options.batch_size
        import onnxruntime

        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = _FATAL_ONLY  # what fails is raised, once

    @cached_property
    def placement(self) -> dict[str, int]:
        """Number of nodes by execution provider."""
        nodes: Counter[str] = Counter()
        for subgraph in self.raw.get_provider_graph_assignment_info():
            nodes[subgraph.ep_name] += len(subgraph.get_nodes())
        return dict(nodes)

    def bind(self, images: NDArray[Any]) -> Callable[[], None]:
        """As of `Session`."""
        import onnxruntime

        place = ("cpu", 0) if self.on_cpu else ("cuda", self.gpu_id)
        data = onnxruntime.OrtValue.ortvalue_from_numpy(self._cast(images), *place)
        binding = self.raw.io_binding()
        binding.bind_ortvalue_input(self._input_name, data)
        for name in self.outputs:
            binding.bind_output(name, *place)

        def run() -> None:
            with self._errors_of_the_model(len(images)):
                self.raw.run_with_iobinding(binding, self._run_options)
                binding.synchronize_outputs()

        return run

    def describe(self) -> dict[str, Any]:
        """As of `Session`, with the providers and their options."""
        providers = {"providers": self.raw.get_providers(), "provider_options": self.raw.get_provider_options()}
        return super().describe() | providers

    def close(self) -> None:
        """As of `Session`."""
        self._run_options.terminate = True

    def _run_on_device(self, images: NDArray[Any]) -> Outputs:
        if self.on_cpu:
            return list(self.raw.run(self.outputs, {self._input_name: images}, self._run_options))
        binding = self.raw.io_binding()
        binding.bind_cpu_input(self._input_name, images)  # uploads the pixels as they are, a byte a sample
        for name in self.outputs:
            binding.bind_output(name, "cuda", self.gpu_id)
        self.raw.run_with_iobinding(binding, self._run_options)
        return list(binding.copy_outputs_to_cpu())


def _open(model: bytes, device: str, options: SessionOptions) -> "onnxruntime.InferenceSession":
    raw = _create(
        tune_for_gpu(model) if device == "cuda" else model,
        _session_options(model, device != "cpu", options),
        provider_list(device, gpu_id=options.gpu_id, tf32=options.tf32, cache_dir=options.cache_dir),
    )
    if raw.get_providers()[0] != PROVIDERS[device]:
        raise DeviceError(
            f"{wish(device)}: ONNX Runtime lists {PROVIDERS[device]} and cannot start it, mostly for "
            "want of CUDA or cuDNN libraries. Install them with `pip install 'onnxruntime-gpu[cuda,cudnn]'`; "
            "`kerasxfer-serving env` says what is missing."
        )
    return raw


def _session_options(model: bytes, gpu: bool, wanted: SessionOptions) -> "onnxruntime.SessionOptions":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = wanted.threads
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Bytes can be an ONNX file and, to ONNX Runtime's guess, one of its own format too: what was checked is what runs.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if gpu:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if wanted.batch_size is not None and (name := _open_batch_dimension(model)):
        options.add_free_dimension_override_by_name(name, wanted.batch_size)
    return options


def _open_batch_dimension(model: bytes) -> str | None:
    import onnx

    graph = onnx.load_model_from_string(model).graph
    constants = {tensor.name for tensor in graph.initializer}
    value = next(value for value in graph.input if value.name not in constants)
    name: str = value.type.tensor_type.shape.dim[0].dim_param
    return name or None


def _create(
    model: bytes, options: "onnxruntime.SessionOptions", providers: list[Any]
) -> "onnxruntime.InferenceSession":
    import onnxruntime

    try:
        raw = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own errors have no common base below Exception
        raise ModelError(f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {error}") from error
    raw.disable_fallback()  # else a provider that fails later would be replaced by the CPU in mid-run
    return raw


def require_device(device: str, gpu_id: int) -> None:
    """Look for what a device needs, before ONNX Runtime does without it.

    Raises:
        DeviceError: With the remedy, where something is not there.
    """
    import onnxruntime

    if PROVIDERS[device] not in (listed := onnxruntime.get_available_providers()):
        raise DeviceError(
            f"{wish(device)}: this ONNX Runtime is not built for it. Received: providers {listed}. Replace it: "
            "`pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'kerasxfer-serving[gpu]'`."
        )
    count = cuda_devices()
    if count == 0:
        raise DeviceError(
            f"{wish(device)}: this process sees no NVIDIA GPU. `nvidia-smi` shows what the driver has; a container "
            "needs `--gpus all`; `CUDA_VISIBLE_DEVICES` hides GPUs."
        )
    if not 0 <= gpu_id < count:
        raise DeviceError(f"`gpu_id` must be 0 to {count - 1}: that many GPUs are visible. Received: gpu_id={gpu_id}")
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds the CUDA and cuDNN wheels, which are on no library path


def provider_list(device: str, *, gpu_id: int = 0, tf32: bool = True, cache_dir: str | Path | None = None) -> list[Any]:
    """Providers and their options for a device, best first; the rest take single nodes that it has no kernel for.

    Args:
        device: `"cpu"`, `"cuda"` or `"tensorrt"`.
        gpu_id: See `kerasxfer_serving.runtime.opening.open_session`, as for the rest.
        tf32: Whether CUDA may round float32 products to TF32.
        cache_dir: Where TensorRT keeps engines and timings.
    """
    cpu = PROVIDERS["cpu"]
    if device == "cpu":
        return [cpu]
    cuda = (PROVIDERS["cuda"], {"device_id": gpu_id, "use_tf32": int(tf32), **CUDA_OPTIONS})
    if device == "cuda":
        return [cuda, cpu]
    tensorrt: dict[str, Any] = {"device_id": gpu_id}
    if cache_dir is not None:
        Path(cache_dir).mkdir(parents=True, exist_ok=True)
        tensorrt |= {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(cache_dir),
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": str(cache_dir),
        }
    return [(PROVIDERS["tensorrt"], tensorrt), cuda, cpu]
