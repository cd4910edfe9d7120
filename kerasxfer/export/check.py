"""A model file against the Keras model it came from, on labelled pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.images import ImagePolicy
from numpy.typing import NDArray

from kerasxfer.data import ImageFolder
from kerasxfer.export.errors import ExportError
from kerasxfer.export.file_answers import BATCH
from kerasxfer.export.inference import output_kind
from kerasxfer.export.parity import Parity, compare, kind_of, probabilities_of
from kerasxfer.export.source import own_answers

Answer = Callable[[NDArray[np.uint8]], NDArray[Any]]


def labelled_pictures(
    folder: str | Path, image_size: tuple[int, int], policy: ImagePolicy, class_names: Sequence[str]
) -> ImageFolder:
    """The labelled pictures of a folder in a fixed order, without the unreadable ones.

    Args:
        folder: a folder of class folders.
        image_size: `(height, width)`.
        policy: how to decode and resize.
        class_names: the model's classes, which the folders must be.

    Raises:
        ExportError: the folders are not the classes, or hold no picture that can be read.
    """
    try:
        return ImageFolder(
            folder, image_size, BATCH, class_names=class_names, shuffle=False, policy=policy, on_error="skip"
        )
    except ValueError as error:
        raise ExportError(f"`{folder}` cannot be checked on: {error}") from error


def compare_on(
    pictures: ImageFolder, model: keras.Model, file: Answer, *, preprocessing: str | None, output: str | None = None
) -> Parity:
    """Ask the model and the file about every picture, a batch at a time.

    Args:
        pictures: from `labelled_pictures`.
        model: the source, from `reference_model`.
        file: answers uint8 pictures with the file's probabilities.
        preprocessing: mode of `Preprocess` that stands before the model, or `None`.
        output: `"softmax"`, `"sigmoid"` or `"logits"`. Defaults to `None`, as the model says.

    Returns:
        A `Parity` with both accuracies.
    """
    expected, received = [], []
    for start in range(0, len(pictures.paths), BATCH):
        images = pictures.load(np.arange(start, min(start + BATCH, len(pictures.paths))))
        expected.append(own_answers(model, images, preprocessing))
        received.append(file(images))
    outputs = np.concatenate(expected)
    return compare(
        probabilities_of(outputs, output or output_kind(model) or kind_of(outputs)),
        np.concatenate(received),
        pictures.paths,
        pictures.class_names,
        pictures.labels,
    )
