"""What each device needs, and the ONNX Runtime providers that it stands for."""

import ctypes
import sys
from pathlib import Path
from typing import Any

from kerasxfer_serving.errors import DeviceError

DEVICES = ("auto", "cpu", "openvino", "cuda", "tensorrt", "fastest")
ON_CPU = ("cpu", "openvino")
CPU_PRECISIONS = ("f32", "bf16")
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


def cuda_devices() -> int:
    """Number of GPUs that the NVIDIA driver shows to this process; 0 without a driver."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


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


def wish(device: str) -> str:
    """How a message about a device begins."""
    return f"`device={device!r}` is not available"


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
