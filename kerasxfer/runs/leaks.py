"""Validation images that are trained on too."""

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from kerasxfer.auditing.duplicates import ALIKE, RULES
from kerasxfer.auditing.inspection import inspect
from kerasxfer.bottleneck.cache import BottleneckCache
from kerasxfer.bottleneck.shards import file_hash
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.image_files import BadImage
from kerasxfer.probing.features import pooled_features_of_sets, standardised

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
    copies = _equal_files(training, validation)
    if cache is not None:
        best, cosine = _most_alike(*pooled_features_of_sets(model, (training, validation), cache))
        rows = np.flatnonzero(~copies & (cosine >= ALIKE))
        copies[rows] = _same_shape(training, best[rows], validation, rows)
    return copies


def _equal_files(training: ImageDataset, validation: ImageDataset) -> NDArray[np.bool_]:
    """Which validation files are equal to a training file; only files of one size are read."""
    trained, rest = _sizes(training), _sizes(validation)
    both = {size for _, size in trained} & {size for _, size in rest} - {None}
    hashes = {file_hash(path) for path, size in trained if size in both}
    return np.array([size in both and file_hash(path) in hashes for path, size in rest], bool)


def _sizes(images: ImageDataset) -> list[tuple[Path, int | None]]:
    """The size of each file; `None` where none can be read, of which training will say more."""
    paths = [Path(images.root) / path for path in images.paths]
    return [(path, path.stat().st_size if os.access(path, os.R_OK) else None) for path in paths]


def _most_alike(
    trained: NDArray[np.float32], others: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each of the others the row that is the most like it, and the cosine of their standardised features."""
    directions = standardised(np.concatenate([trained, others]))
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    rows, columns = directions[len(trained) :], directions[: len(trained)].T
    best, cosine = np.empty(len(rows), np.intp), np.empty(len(rows), np.float32)
    step = max(1, _BLOCK // len(trained))
    for start in range(0, len(rows), step):
        block = rows[start : start + step] @ columns
        best[start : start + step] = block.argmax(axis=1)
        cosine[start : start + step] = block.max(axis=1)
    return best, cosine


def _same_shape(
    training: ImageDataset, trained: NDArray[np.intp], validation: ImageDataset, others: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Which pairs have difference hashes that agree too: images of a kind, such as drawings, have alike features."""
    _, most_bits = RULES[0]
    looks = [
        list(inspect(Path(images.root), [images.paths[row] for row in rows]))
        for images, rows in ((training, trained), (validation, others))
    ]
    same = []
    for one, other in zip(*looks, strict=True):
        if isinstance(one, BadImage) or isinstance(other, BadImage):
            same.append(False)
        else:
            same.append(min((one.shape ^ each).bit_count() for each in (other.shape, other.mirrored)) <= most_bits)
    return np.array(same, bool)


def tell_of_leaks(
    evaluate: Callable[..., Mapping[str, float]],
    model: keras.Model,
    validation: ImageDataset,
    copies: NDArray[np.bool_],
    result: dict[str, float],
) -> str:
    """Say how many validation images are trained on, and what the model is worth on the others.

    Args:
        evaluate: What evaluates a model: `keras.Model.evaluate`, or that of a `BottleneckCache`.
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
    clean = evaluate(model, others, return_dict=True, verbose=0)
    metric = "accuracy" if "accuracy" in clean else "loss"
    return (
        f"{said}. Without them the {metric} is {clean[metric]:.4f}, with them {result[metric]:.4f}; `kerasxfer audit` "
        "lists them."
    )
