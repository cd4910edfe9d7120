"""What an ONNX file answers, in plain ONNX Runtime on the CPU: the device that has no modes of lower precision."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasxfer.export.errors import ExportError
from kerasxfer.export.graph import INPUT, OUTPUT

BATCH = 16


def open_session(data: bytes) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises:
        ExportError: ONNX Runtime is missing, or refuses the file.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ExportError('The parity check needs ONNX Runtime: `pip install "kerasxfer[cpu]"`, or `[gpu]`.') from error
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ExportError(f"ONNX Runtime refuses the converted file: {error}") from error


def answers(session: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities of pictures, in batches of `BATCH`, the last one padded."""
    return np.concatenate([_padded(session, images[start : start + BATCH]) for start in range(0, len(images), BATCH)])


def answers_in_every_batch(session: Any, images: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Answers by padded batches, by the first pictures alone and by a short tail: no batch size may change them.

    Returns:
        The number of the picture of each answer, and the answers.
    """
    alone, tail = np.arange(min(2, len(images))), np.arange(max(0, len(images) - 3), len(images))
    rows = np.concatenate([np.arange(len(images)), alone, tail])
    parts = [answers(session, images), *(_run(session, images[[row]]) for row in alone), _run(session, images[tail])]
    return rows, np.concatenate(parts)


def _padded(session: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    filler = np.zeros((BATCH - len(images), *images.shape[1:]), np.uint8)
    return _run(session, np.concatenate([images, filler]))[: len(images)]


def _run(session: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    outputs: NDArray[np.float32] = session.run([OUTPUT], {INPUT: images})[0]
    return outputs
