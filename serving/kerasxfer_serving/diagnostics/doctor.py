"""Finds what is wrong with an installation, and the command that mends it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kerasxfer_serving.diagnostics.env import environment, versions
from kerasxfer_serving.runtime.probe import OPENVINO, probe
from kerasxfer_serving.runtime.resources import cuda_devices

_UNINSTALL = "pip uninstall -y onnxruntime onnxruntime-gpu"
CPU_COMMAND = f"{_UNINSTALL} && pip install 'kerasxfer-serving[cpu]'"
GPU_COMMAND = f"{_UNINSTALL} && pip install 'kerasxfer-serving[gpu]'"
LIBRARIES_COMMAND = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
SEPARATE_COMMAND = "python -m venv .venv-serving && .venv-serving/bin/pip install 'kerasxfer-serving[gpu]'"
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_PROBED = ("CPUExecutionProvider", CUDA, TENSORRT)


class Problem(NamedTuple):
    """Something wrong, and the command that mends it."""

    what: str
    command: str


class Facts(NamedTuple):
    """What the checks look at.

    Args:
        packages: Versions of installed packages by name, the wheels with CUDA libraries among them.
        onnxruntime: As in `environment()`, `None` where it cannot be imported.
        gpus: Number of GPUs that the driver shows.
        driver_cuda: Newest CUDA version of the driver, or `None`.
        probes: What `probe` said, by provider.
    """

    packages: Mapping[str, str]
    onnxruntime: Mapping[str, Any] | None
    gpus: int
    driver_cuda: str | None
    probes: Mapping[str, Mapping[str, Any]]

    def listed(self, provider: str) -> bool:
        """Whether ONNX Runtime says that it has a provider."""
        return self.onnxruntime is not None and provider in self.onnxruntime["providers"]

    def starts(self, provider: str) -> bool:
        """Whether it really has it."""
        return bool(self.probes.get(provider, {}).get("starts"))


def diagnose() -> dict[str, Any]:
    """The environment, the providers that really start, and the problems; takes a second or more a provider."""
    found = environment()
    runtime = found["onnxruntime"]
    probes = {provider: probe(provider) for provider in _PROBED if runtime and provider in runtime["providers"]}
    if OPENVINO in found["versions"]:
        probes[OPENVINO] = probe(OPENVINO)
    libraries = ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")
    facts = Facts(found["versions"] | versions(libraries), runtime, cuda_devices(), found["cuda"]["driver"], probes)
    return found | {"providers": probes, "problems": [problem._asdict() for problem in problems(facts)]}


def problems(facts: Facts) -> list[Problem]:
    """Problems in the order in which they should be mended; each of `CHECKS` finds at most one."""
    return [problem for check in CHECKS if (problem := check(facts))]


def _no_runtime(facts: Facts) -> Problem | None:
    if facts.onnxruntime is not None:
        return None
    command = "pip install 'kerasxfer-serving[gpu]'" if facts.gpus else "pip install 'kerasxfer-serving[cpu]'"
    return Problem("ONNX Runtime is not installed: it comes with an extra", command)


def _both_wheels(facts: Facts) -> Problem | None:
    if not {"onnxruntime", "onnxruntime-gpu"} <= facts.packages.keys():
        return None
    what = (
        "onnxruntime and onnxruntime-gpu are both installed: they overwrite each other's files, and the last one wins"
    )
    return Problem(what, GPU_COMMAND if facts.gpus else CPU_COMMAND)


def _overwritten_wheel(facts: Facts) -> Problem | None:
    """One wheel is left on the list of packages, and the files are the other's."""
    if facts.onnxruntime is None or _both_wheels(facts):
        return None
    if "onnxruntime-gpu" in facts.packages and not facts.listed(CUDA):
        return Problem("onnxruntime-gpu is installed and its files are those of the CPU wheel", GPU_COMMAND)
    return None


def _gpu_unused(facts: Facts) -> Problem | None:
    if facts.gpus and facts.onnxruntime and not facts.listed(CUDA) and "onnxruntime-gpu" not in facts.packages:
        return Problem(f"{facts.gpus} GPU(s) are visible and this ONNX Runtime is for CPUs", GPU_COMMAND)
    return None


def _no_gpu(facts: Facts) -> Problem | None:
    if facts.listed(CUDA) and not facts.starts(CUDA) and not facts.gpus:
        what = "CUDA is listed and no NVIDIA GPU is visible: ONNX Runtime would run on the CPU without saying so"
        return Problem(what, "nvidia-smi    # shows what the driver has; a container needs `--gpus all`")
    return None


def _old_driver(facts: Facts) -> Problem | None:
    wanted = (facts.onnxruntime or {}).get("built_for_cuda")
    if not (wanted and facts.driver_cuda and facts.listed(CUDA)) or _major(facts.driver_cuda) >= _major(wanted):
        return None
    what = f"this ONNX Runtime is built for CUDA {wanted}, and the driver runs CUDA {facts.driver_cuda} at most"
    return Problem(what, "update the NVIDIA driver: CUDA 13 needs 580 or newer, CUDA 12 needs 525 or newer")


def _cuda_does_not_start(facts: Facts) -> Problem | None:
    if not facts.gpus or not facts.listed(CUDA) or facts.starts(CUDA) or _old_driver(facts):
        return None
    return Problem(f"CUDA is listed and does not start: {facts.probes[CUDA]['reason']}", LIBRARIES_COMMAND)


def _two_cudnn(facts: Facts) -> Problem | None:
    """Both wheels write to `nvidia/cudnn`: whichever came last has its files there."""
    if not {"nvidia-cudnn-cu12", "nvidia-cudnn-cu13"} <= facts.packages.keys():
        return None
    what = "the cuDNN wheels for CUDA 12 and 13 are both installed and overwrite each other (TensorFlow's and ours)"
    return Problem(what, SEPARATE_COMMAND)


def _other_cudnn(facts: Facts) -> Problem | None:
    """A library path that comes first: the cuDNN that is loaded is not the one of the wheel."""
    loaded = facts.probes.get(CUDA, {}).get("loaded", {}).get("cudnn")
    wheel = facts.packages.get("nvidia-cudnn-cu13") or facts.packages.get("nvidia-cudnn-cu12")
    if not loaded or not wheel or wheel.split(".")[:3] == loaded["version"].split("."):
        return None
    what = f"cuDNN {loaded['version']} is loaded from {loaded['path']}, and cuDNN {wheel} is installed"
    return Problem(what, "unset LD_LIBRARY_PATH")


def _no_tensorrt(facts: Facts) -> Problem | None:
    if not facts.starts(CUDA) or not facts.listed(TENSORRT) or facts.starts(TENSORRT):
        return None
    what = f"TensorRT is listed and does not start: {facts.probes[TENSORRT]['reason']}"
    return Problem(what, f"pip install tensorrt-cu{_major((facts.onnxruntime or {}).get('built_for_cuda') or '13')}")


def _no_openvino(facts: Facts) -> Problem | None:
    if OPENVINO not in facts.packages or facts.starts(OPENVINO):
        return None
    what = f"OpenVINO is installed and does not start: {facts.probes[OPENVINO]['reason']}"
    return Problem(what, "pip install --force-reinstall 'kerasxfer-serving[openvino]'")


CHECKS: tuple[Callable[[Facts], Problem | None], ...] = (
    _no_runtime,
    _both_wheels,
    _overwritten_wheel,
    _gpu_unused,
    _no_gpu,
    _old_driver,
    _two_cudnn,
    _other_cudnn,
    _cuda_does_not_start,
    _no_tensorrt,
    _no_openvino,
)


def _major(version: str) -> int:
    return int(version.partition(".")[0])
