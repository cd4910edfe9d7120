"""The answers that are compared: the Keras model's own, on its own backend, and an ONNX file's.

Nothing of the conversion is in the model's answers.
"""

from typing import Any

import keras
import numpy as np
from kerasxfer_serving.runtime.opening import open_session
from kerasxfer_serving.runtime.session import Session
from numpy.typing import NDArray
from PIL import Image

from kerasxfer.export.errors import ExportError
from kerasxfer.export.graph import OUTPUT
from kerasxfer.export.served import input_dtype, is_channels_first, is_greyscale, needs_preparation, prepare
from kerasxfer.export.source import Source, read_source
from kerasxfer.layers.preprocess import Preprocess

BATCH = 16


def reference_model(source: Source) -> keras.Model:
    """The model to compare with: as trained, or its float32 twin where it computes in half precision."""
    if not needs_preparation(source.model):
        return source.model
    return prepare(read_source(source.file, preprocess_input=source.preprocess_input, safe_mode=source.safe_mode))


def own_answers(model: keras.Model, images: NDArray[np.uint8], preprocessing: str | None) -> NDArray[np.float32]:
    """The outputs of a model.

    Args:
        model: From `reference_model`.
        images: Array of uint8, `[n, height, width, 3]`.
        preprocessing: Mode of `Preprocess` that stands before the model, or `None`.

    Returns:
        Array of float32, `[n, columns]`, the model's outputs as they are.
    """
    layer = Preprocess(preprocessing, data_format="channels_last", dtype="float32") if preprocessing else None
    if is_greyscale(model):
        images = np.stack([np.asarray(Image.fromarray(image).convert("L"))[..., None] for image in images])
    answers = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        # Always a whole batch: another shape would be compiled anew.
        pixels: Any = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), np.uint8)])
        pixels = keras.ops.convert_to_numpy(layer(pixels)) if layer else pixels.astype(input_dtype(model))
        if is_channels_first(model):
            pixels = pixels.transpose(0, 3, 1, 2)
        answers.append(np.asarray(model.predict_on_batch(pixels), np.float32)[: len(part)])
    return np.concatenate(answers)


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
