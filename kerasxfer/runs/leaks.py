"""Validation images that are trained on too."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasxfer.auditing.duplicates import ALIKE
from kerasxfer.bottleneck.cache import BottleneckCache
from kerasxfer.bottleneck.hashing import file_hash
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.probing.features import pooled_features, standardised

_BLOCK = 30_000_000


def leaked(
    training: ImageDataset, validation: ImageDataset, model: keras.Model, cache: BottleneckCache | None
) -> NDArray[np.bool_]:
    """Which validation images are copies of training images.

    Args:
        training: The training images.
        validation: The validation images.
        model: The model before it is trained, whose frozen part gives the features.
        cache: Where these are. Defaults to `None`: only files that are equal, byte for byte, are found.

    Returns:
        A flag for each validation image, `[images]`.
    """
    hashes = set(_hashes(training)) - {None}
    equal = np.array([each in hashes for each in _hashes(validation)])
    if cache is None:
        return equal
    features = [pooled_features(model, images, cache) for images in (training, validation)]
    directions = standardised(np.concatenate(features))
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    trained, rest = directions[: len(training.paths)].T, directions[len(training.paths) :]
    step = max(1, _BLOCK // len(training.paths))
    for start in range(0, len(rest), step):
        equal[start : start + step] |= (rest[start : start + step] @ trained).max(axis=1) >= ALIKE
    return equal


def _hashes(images: ImageDataset) -> Iterator[str | None]:
    """The hash of each file; `None` where there is none to read, of which training will say more."""
    for path in images.paths:
        try:
            yield file_hash(Path(images.root) / path)
        except OSError:
            yield None


def tell_of_leaks(
    runner: Any, model: keras.Model, validation: ImageDataset, copies: NDArray[np.bool_], result: dict[str, float]
) -> str:
    """Say how many validation images are trained on, and what the model is worth on the others.

    Args:
        runner: What evaluates: `keras.Model`, or a `BottleneckCache`.
        model: The trained model.
        validation: The validation images.
        copies: As `leaked` finds them.
        result: The metrics on all validation images.
    """
    said = f"{copies.sum():,} of {len(copies):,} validation images are copies of training images"
    if copies.all():
        return f"{said}: nothing is left to validate on."
    others = copy.copy(validation)
    others.keep(~copies)
    clean = runner.evaluate(model, others, return_dict=True, verbose=0)
    metric = "accuracy" if "accuracy" in clean else "loss"
    return (
        f"{said}. Without them the {metric} is {clean[metric]:.4f}, with them {result[metric]:.4f}; `kerasxfer audit` "
        "lists them."
    )
