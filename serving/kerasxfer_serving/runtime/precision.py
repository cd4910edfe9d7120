"""Which precision a model is computed in on the CPU where nobody says."""

from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.runtime.openvino_session import has_bf16


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
