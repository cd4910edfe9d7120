"""OpenVINO on the CPU: the same file, on the same cores, with kernels that ONNX Runtime does not have."""

import io
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerasxfer_serving.errors import DeviceError, ModelError
from kerasxfer_serving.runtime.resources import available_cores
from kerasxfer_serving.runtime.session import Outputs, Session, SessionOptions, require_images, require_outputs, wish

if TYPE_CHECKING:
    import openvino

_FIRST_USE = threading.Lock()
_DTYPES = {"u8": np.uint8, "f32": np.float32, "f16": np.float16}
_OUTPUT_TYPES = {"f32", "f16", "f64"}
_NOT_COMPUTED = {"Const", "Input", "Output"}
_PROPERTIES = ("EXECUTION_DEVICES", "NUM_STREAMS", "INFERENCE_NUM_THREADS")


class OpenVinoSession(Session):
    """A model in OpenVINO, with as many streams as runs with `threads` each have room on the cores.

    Args:
        model: Bytes of an ONNX file that was checked.
        options: How it is to run.
        reason: Why it is taken.

    Attributes:
        raw: The `openvino.CompiledModel`.

    Raises:
        DeviceError: OpenVINO is not installed, or the CPU does not have the precision.
        ModelError: OpenVINO cannot load the model.
    """

    device = "openvino"
    runtime = "openvino"
    gpu_id = 0
    tf32 = None

    def __init__(self, model: bytes, options: SessionOptions, reason: str = "") -> None:
        require_openvino(options.cpu_precision)
        self.reason = reason
        self.threads = options.threads
        self.cpu_precision = options.cpu_precision
        self.raw = _compile(model, options)
        types = {output.get_any_name(): output.get_element_type().get_type_name() for output in self.raw.outputs}
        self.outputs = require_outputs(options.outputs, types, _OUTPUT_TYPES)
        (entry,) = self.raw.inputs
        shape = entry.get_partial_shape()
        self.input_shape = tuple(None if side.is_dynamic else side.get_length() for side in shape)
        kind = entry.get_element_type().get_type_name()
        require_images(entry.get_any_name(), kind, self.input_shape, _DTYPES)
        self._dtype = _DTYPES[kind]
        self.fixed_batch = self.input_shape[0] if isinstance(self.input_shape[0], int) else None
        self._lock = threading.Lock()
        self._idle: list[openvino.InferRequest] = []
        self._busy: set[openvino.InferRequest] = set()
        self._closed = False

    @cached_property
    def placement(self) -> dict[str, int]:
        """Number of nodes of the compiled graph by device."""
        return {device: sum(self._executed.values()) for device in self.raw.get_property("EXECUTION_DEVICES")}

    def bind(self, images: NDArray[Any]) -> Callable[[], None]:
        """As of `Session`."""
        request = self.raw.create_infer_request()
        request.infer([self._cast(images)])

        def run() -> None:
            with self._errors_of_the_model(len(images)):
                request.infer()

        return run

    def describe(self) -> dict[str, Any]:
        """As of `Session`, with what OpenVINO reports: its settings, and in which precision each kind of node runs."""
        executed: dict[str, dict[str, int]] = {}
        for (layer, precision), nodes in sorted(self._executed.items()):
            executed.setdefault(layer, {})[precision] = nodes
        properties = {name: self.raw.get_property(name) for name in _PROPERTIES}
        return super().describe() | {"properties": properties, "executed": executed}

    def close(self) -> None:
        """As of `Session`."""
        with self._lock:
            self._closed = True
            for request in self._busy:
                request.cancel()
            self._idle.clear()

    def _run_on_device(self, images: NDArray[Any]) -> Outputs:
        with self._request() as request:
            # Copied into memory of the request: arrays that Python shares with it can be freed under its feet.
            request.start_async([images], share_inputs=False)
            request.wait()
            return [np.array(request.get_tensor(name).data) for name in self.outputs]

    @contextmanager
    def _request(self) -> "Iterator[openvino.InferRequest]":
        with self._lock:
            if self._closed:
                raise ModelError("The session is closed.")
            request = self._idle.pop() if self._idle else self.raw.create_infer_request()
            self._busy.add(request)
        try:
            yield request
        finally:
            with self._lock:
                self._busy.discard(request)
                self._idle.append(request)

    @cached_property
    def _executed(self) -> Counter[tuple[str, str]]:
        """Number of nodes by kind and precision, as OpenVINO says that it executes them."""
        nodes: Counter[tuple[str, str]] = Counter()
        for node in self.raw.get_runtime_model().get_ops():
            about = node.get_rt_info()
            layer, precision = (about[key].astype(str) for key in ("layerType", "runtimePrecision"))
            if layer not in _NOT_COMPUTED:
                nodes[layer, precision] += 1
        return nodes


def require_openvino(cpu_precision: str) -> None:
    """Look for OpenVINO, and for a precision on this CPU, before a model is compiled.

    Raises:
        DeviceError: With the remedy, where something is not there.
    """
    try:
        import_openvino()
    except ImportError as error:
        raise DeviceError(
            f"{wish('openvino')}: OpenVINO cannot be imported ({error}). `pip install 'kerasxfer-serving[openvino]'`."
        ) from None
    if cpu_precision == "bf16" and not has_bf16():
        raise DeviceError(
            "`cpu_precision='bf16'` is not available: this CPU does not compute in bfloat16. Leave it at 'f32'."
        )


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry.

    Its import starts a process, by a fork of whatever this one is, that tells an analytics service of it. OpenVINO does
    without where that package is missing.
    """
    hidden = "openvino_telemetry" not in sys.modules
    if hidden:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it cannot be imported
    try:
        return import_module("openvino")
    finally:
        if hidden:
            sys.modules.pop("openvino_telemetry", None)


def has_bf16() -> bool:
    """Whether OpenVINO is here and computes in bfloat16 on this CPU, by its own word."""
    return find_spec("openvino") is not None and "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def _core() -> "openvino.Core":
    openvino = import_openvino()
    with _FIRST_USE:
        # On first use of a tensor's data OpenVINO looks for NumPy. Two threads that make it do so at once wait for each
        # other for ever: one has Python's lock and wants the initialisation's, the other has that and wants Python's.
        _ = openvino.Tensor(np.zeros(1, np.uint8)).data
        return openvino.Core()


def _compile(model: bytes, options: SessionOptions) -> "openvino.CompiledModel":
    import openvino
    from openvino.frontend import FrontEndManager

    streams = max(1, available_cores() // options.threads)
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": options.cpu_precision,
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams * options.threads,
        "ENABLE_CPU_PINNING": False,  # decoding has the same cores
    }
    if options.cache_dir is not None:
        Path(options.cache_dir).mkdir(parents=True, exist_ok=True)
        settings["CACHE_DIR"] = str(options.cache_dir)
    try:
        # By name: bytes can be an ONNX file and, to OpenVINO's guess, another format too.
        frontend = FrontEndManager().load_by_framework("onnx")
        return _core().compile_model(frontend.convert(frontend.load(io.BytesIO(model))), "CPU", settings)
    except Exception as error:  # OpenVINO's own errors have no common base below Exception
        raise ModelError(f"OpenVINO {openvino.__version__} cannot load the model: {error}") from error
