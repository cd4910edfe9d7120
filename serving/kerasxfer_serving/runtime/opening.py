"""`open_session`: a model on the device that was asked for, whichever runtime and precision that takes."""

from collections.abc import Sequence
from pathlib import Path

from kerasxfer_serving.errors import DeviceError, UsageError
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.runtime.fastest import open_fastest
from kerasxfer_serving.runtime.onnxruntime_session import OnnxRuntimeSession
from kerasxfer_serving.runtime.openvino_session import OpenVinoSession, has_bf16
from kerasxfer_serving.runtime.resources import available_cores
from kerasxfer_serving.runtime.session import CPU_PRECISIONS, DEVICES, Session, SessionOptions, wish


def open_session(
    model: str | Path | bytes,
    device: str = "auto",
    *,
    gpu_id: int | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
    outputs: Sequence[str] | None = None,
    tf32: bool = True,
    cpu_precision: str = "f32",
    cache_dir: str | Path | None = None,
) -> Session:
    """Open a model on a device.

    Args:
        model: An `.onnx` file, or the bytes of one that was checked already.
        device: `"cpu"`, `"cuda"` or `"tensorrt"`, all of them of ONNX Runtime; `"openvino"`, the CPU in OpenVINO;
            `"auto"`: CUDA where it starts, else `"cpu"`; or `"fastest"`: of what is installed, what two seconds of each
            show. `.reason` says why the last two took what they took. Defaults to `"auto"`.
        gpu_id: Which GPU; naming one rules out the CPU where `device="auto"`. Defaults to `None`, the first.
        threads: Threads of one run on the CPU. Defaults to the cores this process may use.
        batch_size: The one batch size a GPU is to see, since it searches its algorithms anew for every shape. Ignored
            on the CPU, but for the size that `"fastest"` measures with. Defaults to `None`, any size.
        outputs: Names of the outputs to fetch. Defaults to all, in the graph's order.
        tf32: Whether CUDA may round float32 products to TF32. Defaults to `True`, as ONNX Runtime does.
        cpu_precision: `"f32"`, or `"bf16"`: OpenVINO on the CPU then rounds float32 products to bfloat16. Defaults to
            `"f32"`.
        cache_dir: Where TensorRT keeps engines and timings, and OpenVINO what it compiled, between runs. Defaults to
            `None`, nowhere.

    Returns:
        A `Session`.

    Raises:
        DeviceError: The device is not available.
        ModelError: The file is refused, or the runtime cannot load it.

    Example:

    ```python
    session = open_session("model.onnx", "cpu", threads=2)
    (probabilities,) = session.run(np.zeros((1, 150, 150, 3), "uint8"))
    ```
    """
    if device not in DEVICES:
        raise UsageError(f"`device` must be one of {DEVICES}. Received: device={device!r}")
    if cpu_precision not in CPU_PRECISIONS:
        raise UsageError(f"`cpu_precision` must be one of {CPU_PRECISIONS}. Received: cpu_precision={cpu_precision!r}")
    if not isinstance(model, bytes):
        from kerasxfer_serving.model.model_file import load_model_file

        model = load_model_file(model).data
    if device == "tensorrt" and not tf32:
        raise UsageError(
            "`tf32=False` is for `device='cuda'`: ONNX Runtime has no such switch for TensorRT. Set the environment "
            "variable `NVIDIA_TF32_OVERRIDE=0` instead."
        )
    options = SessionOptions(
        gpu_id or 0, threads or available_cores(), batch_size, outputs, tf32, cpu_precision, cache_dir
    )
    match device:
        case "openvino":
            return OpenVinoSession(model, options)
        case "fastest":
            return open_fastest(model, options)
        case "auto":
            return _open_auto(model, options, gpu_only=gpu_id is not None)
        case _:
            return OnnxRuntimeSession(model, device, options)


def default_cpu_precision(device: str, manifest: Manifest) -> str:
    """`"bf16"` where OpenVINO may run the model, its manifest says that it passed the gate so, and the CPU has it.

    Args:
        device: As asked for.
        manifest: Of the model.

    Returns:
        `"bf16"`, else `"f32"`.
    """
    may = device in ("openvino", "fastest") and manifest.passed_in("openvino", "bf16")
    return "bf16" if may and has_bf16() else "f32"


def _open_auto(model: bytes, options: SessionOptions, *, gpu_only: bool) -> Session:
    try:
        return OnnxRuntimeSession(model, "cuda", options, reason="a GPU is there")
    except DeviceError as error:
        if gpu_only:
            raise
        reason = str(error).removeprefix(f"{wish('cuda')}: ").partition(". ")[0]
        return OnnxRuntimeSession(model, "cpu", options, reason=f"no CUDA: {reason}")
