"""What the Keras model itself answers, on its own backend: nothing of the conversion is in it."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
