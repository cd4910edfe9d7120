"""What an ONNX file answers, in batches of every kind."""

from typing import Any

import numpy as np
from kerasxfer_serving.runtime.opening import open_session
from kerasxfer_serving.runtime.session import Session
from numpy.typing import NDArray

from kerasxfer.export.errors import ExportError
from kerasxfer.export.graph import OUTPUT

BATCH = 16


def open_file(
    data: bytes,
    device: str = "cpu",
    *,
    output: str = OUTPUT,
    tf32: bool = False,
    threads: int | None = None,
    cpu_precision: str = "f32",
) -> Session:
    """A session that gives probabilities. Comparisons are made on the CPU, or on CUDA without TF32.

    Raises:
        ExportError: ONNX Runtime is missing.
        ModelError: The runtime refuses the file.
        DeviceError: The device is not available.
    """
    try:
        return open_session(
            data,
            device,
            batch_size=BATCH,
            outputs=[output],
            tf32=tf32,
            threads=threads,
            cpu_precision=cpu_precision,
        )
    except ImportError as error:
        raise ExportError('The comparison needs ONNX Runtime: `pip install "kerasxfer[cpu]"`, or `[gpu]`.') from error


def answers(session: Session, images: NDArray[np.uint8]) -> NDArray[Any]:
    """Probabilities of images, in batches of `BATCH`, the last one padded."""
    parts = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        filler = np.zeros((BATCH - len(part), *part.shape[1:]), np.uint8)
        parts.append(session.run(np.concatenate([part, filler]))[0][: len(part)])
    return np.concatenate(parts)


def answers_in_every_batch(session: Session, images: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Answers by padded batches, by the first images alone and by a short tail: no batch size may change them.

    Returns:
        The number of the image of each answer, and the answers.
    """
    alone, tail = np.arange(min(2, len(images))), np.arange(max(0, len(images) - 3), len(images))
    rows = np.concatenate([np.arange(len(images)), alone, tail])
    parts = [answers(session, images), *(session.run(images[[row]])[0] for row in alone), session.run(images[tail])[0]]
    return rows, np.concatenate(parts)
