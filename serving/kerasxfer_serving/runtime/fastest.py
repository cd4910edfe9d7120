"""`device="fastest"`: every device that is here, two seconds each."""

import threading
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from kerasxfer_serving.errors import DeviceError, ModelError
from kerasxfer_serving.runtime.onnxruntime_session import OnnxRuntimeSession
from kerasxfer_serving.runtime.openvino_session import OpenVinoSession
from kerasxfer_serving.runtime.resources import available_cores, cuda_devices
from kerasxfer_serving.runtime.session import Session, SessionOptions

SECONDS = 2.0
_BATCH = 8
_UNKNOWN_SIDE = 224


def open_fastest(model: bytes, options: SessionOptions) -> Session:
    """Open a model on each device that is here, run it, and keep the fastest session; its `reason` has the rates.

    Args:
        model: Bytes of an ONNX file that was checked.
        options: How it is to run; ONNX Runtime computes in float32 on the CPU whatever they say.

    Raises:
        DeviceError: The model runs on none of them.
    """
    found: list[tuple[float, Session]] = []
    said: list[str] = []
    for name, open_one in _candidates(model, options).items():
        try:
            session = open_one()
            rate = images_per_second(session, min(options.batch_size or _BATCH, _BATCH), SECONDS)
        except (DeviceError, ModelError) as error:
            said.append(f"{name} failed: {str(error).partition('. ')[0]}")
            continue
        found.append((rate, session))
        said.append(f"{name} {rate:,.0f}")
    if not found:
        raise DeviceError(
            f"`device='fastest'`: the model runs on none of the devices of this machine. {'; '.join(said)}"
        )
    fastest = max(found, key=lambda pair: pair[0])[1]
    for _, session in found:
        if session is not fastest:
            session.close()
    fastest.reason = f"images/s: {', '.join(said)}"
    return fastest


def images_per_second(session: Session, batch: int, seconds: float) -> float:
    """Rate of a session on pixels that lie ready, with as many runs at once as there are cores for.

    Args:
        session: The session.
        batch: Images of a run, where the model leaves that open.
        seconds: How long.
    """
    size = session.fixed_batch or batch
    shape = [side if isinstance(side, int) else _UNKNOWN_SIDE for side in session.input_shape[1:]]
    images = np.random.default_rng(0).integers(0, 256, (size, *shape), "uint8")
    lanes = max(1, available_cores() // session.threads) if session.on_cpu else 2
    session.run(images)
    counts = [0] * lanes
    errors: list[ModelError] = []
    started = time.perf_counter()

    def work(lane: int) -> None:
        try:
            while not counts[lane] or time.perf_counter() - started < seconds:
                session.run(images)
                counts[lane] += size
        except ModelError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts) / (time.perf_counter() - started)


def _candidates(model: bytes, options: SessionOptions) -> dict[str, Callable[[], Session]]:
    exact = options._replace(cpu_precision="f32")
    found: dict[str, Callable[[], Session]] = {"cpu": lambda: OnnxRuntimeSession(model, "cpu", exact)}
    if find_spec("openvino"):
        name = "openvino" if options.cpu_precision == "f32" else f"openvino in {options.cpu_precision}"
        found[name] = lambda: OpenVinoSession(model, options)
    if cuda_devices():
        found["cuda"] = lambda: OnnxRuntimeSession(model, "cuda", options)
    return found
