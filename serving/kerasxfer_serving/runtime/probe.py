"""`python -m kerasxfer_serving.runtime.probe PROVIDER`, or `openvino`: does it start? In a process of its own.

A provider that does not start prints why on stderr, from C++, and one with mismatched libraries may take the process
with it. The parent reads both.
"""

import json
import re
import subprocess
import sys
from typing import Any

OPENVINO = "openvino"
_SECONDS = 120


def probe(provider: str) -> dict[str, Any]:
    """Start an execution provider of ONNX Runtime, or OpenVINO, and run one node on it.

    Args:
        provider: Its name, or `"openvino"`.

    Returns:
        `starts`, and either `loaded` (the CUDA libraries that it uses) or `reason`.
    """
    command = [sys.executable, "-m", __name__, provider]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"starts": False, "reason": f"no answer in {_SECONDS} s"}
    if done.returncode == 0:
        return {"starts": True, "loaded": json.loads(done.stdout.splitlines()[-1])}
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    telling = [
        line for line in lines if "cannot open" in line or "Error" in line or "ERROR" in line or "failed" in line
    ]
    return {"starts": False, "reason": _plain((telling or lines or [f"exit status {done.returncode}"])[-1])}


def _plain(line: str) -> str:
    """A line of ONNX Runtime's log without colours, time and place."""
    line = re.sub(r"\x1b\[[0-9;]*m", "", line)
    for marker in ("with error: ", "[ONNXRuntimeError] : "):
        line = line.rpartition(marker)[2]
    return line.strip()


def main(provider: str) -> None:
    """The child: an error, or the loaded libraries as JSON."""
    import numpy as np
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 4, 1]) for name in "xy"]
    node = helper.make_node("Conv", ["x", "w"], ["y"])  # a convolution: it needs cuDNN
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 4, 1, 1], np.eye(4, dtype="float32").ravel())
    model = helper.make_model(
        helper.make_graph([node], "probe", value[:1], value[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 15)],
        ir_version=8,
    )
    data, ones = model.SerializeToString(), np.ones((1, 4, 4, 1), "float32")
    if provider == OPENVINO:
        from kerasxfer_serving.runtime.openvino_session import import_openvino

        core = import_openvino().Core()
        core.compile_model(core.read_model(data), "CPU")([ones])
        print("{}")
        return
    import onnxruntime

    from kerasxfer_serving.diagnostics.env import loaded_cuda

    if provider != "CPUExecutionProvider" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(data, providers=[provider])
    if session.get_providers()[0] != provider:
        sys.exit(1)  # ONNX Runtime has said why
    session.disable_fallback()
    session.run(None, {"x": ones})
    print(json.dumps(loaded_cuda()))


if __name__ == "__main__":
    main(sys.argv[1])
