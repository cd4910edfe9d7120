"""What this machine is and has: the block for a bug report, and the environment of a benchmark."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kerasxfer_serving.runtime.resources import available_cores, cgroup_quota, cuda_devices

PACKAGES = (
    "kerasxfer-serving",
    "kerasxfer",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "onnx",
    "numpy",
    "pillow",
    "pyarrow",
    "fsspec",
)
_GPU_FIELDS = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm", "mig.mode.current")
_CUDA_LIBRARIES = {
    "cudart": "libcudart.so",
    "cudnn": "libcudnn.so",
    "cublas": "libcublas.so",
    "tensorrt": "libnvinfer.so",
}


def environment() -> dict[str, Any]:
    """Machine and software, as plain values for JSON.

    Returns:
        `versions`, `platform`, `cpu`, `memory_gib`, `gpus`, `cuda` (driver, and the libraries this process has
        loaded) and `onnxruntime` (build and listed providers, which may not start: see `doctor.diagnose`).
    """
    return {
        "versions": versions(),
        "platform": {"python": platform.python_version(), "system": platform.platform(), "machine": platform.machine()},
        "cpu": _cpu(),
        "memory_gib": _memory_gib(),
        "gpus": _gpus(),
        "cuda": {"driver": _driver_cuda(), "loaded": loaded_cuda()},
        "onnxruntime": _onnxruntime(),
    }


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of the packages that are installed; nothing is imported for it."""
    found = {name: installed for name in packages if (installed := _version(name))}
    try:
        from PIL import features

        return found | {"libjpeg-turbo": features.version("libjpeg_turbo") or "no"}
    except ImportError:
        return found


def loaded_cuda() -> dict[str, dict[str, str]]:
    """Path and version of the CUDA libraries that this process has loaded."""
    try:
        paths = {
            line.split(maxsplit=5)[5].strip()
            for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
            if "/" in line
        }
    except OSError:
        return {}
    found = {}
    for name, file in _CUDA_LIBRARIES.items():
        if path := next((path for path in sorted(paths) if Path(path).name.startswith(file)), None):
            found[name] = {"path": path, "version": _library_version(name, path)}
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "model": model,
        "cores": os.cpu_count(),
        "affinity": affinity,
        "cgroup_quota": cgroup_quota(),
        "available": available_cores(),
    }


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _gpus() -> list[dict[str, str]]:
    """What `nvidia-smi` says of each GPU; empty without it."""
    if not (command := shutil.which("nvidia-smi")):
        return []
    query = [command, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [dict(zip(_GPU_FIELDS, map(str.strip, line.split(",")), strict=False)) for line in answer.splitlines()]


def _driver_cuda() -> str | None:
    """Newest CUDA version that the driver can run."""
    if not cuda_devices():
        return None
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    number = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(number))
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _library_version(name: str, path: str) -> str:
    library, number = ctypes.CDLL(path), ctypes.c_int(0)
    match name:
        case "cudart":
            library.cudaRuntimeGetVersion(ctypes.byref(number))
            return f"{number.value // 1000}.{number.value % 1000 // 10}"
        case "cudnn":
            library.cudnnGetVersion.restype = ctypes.c_size_t
            value = library.cudnnGetVersion()
            return f"{value // 10000}.{value % 10000 // 100}.{value % 100}"
        case _:  # these say it in their file's name alone
            return Path(path).resolve().name.partition(".so.")[2]


def _onnxruntime() -> dict[str, Any] | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    return {
        "version": onnxruntime.__version__,
        "built_for_cuda": getattr(onnxruntime, "cuda_version", None) or None,
        "providers": onnxruntime.get_available_providers(),
    }
