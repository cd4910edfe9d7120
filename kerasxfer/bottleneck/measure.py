"""Short measurements of this machine: the prefix's speed, and whether XLA makes the suffix faster or slower."""

import contextlib
import json
import platform as machine
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.files import write_atomically
from numpy.typing import NDArray

from kerasxfer.bottleneck.store import LAYOUT

# A compilation takes as long as some hundred steps of a small suffix: measuring would cost more than it gains.
LEAST_STEPS = 100


def faster_with_jit(
    directory: Path, model: keras.Model, suffix: keras.Model, nothing: NDArray[Any], batch_size: int, steps: int
) -> bool | None:
    """Whether training the suffix is faster with XLA, measured once on a copy of it and remembered in the cache.

    Only on TensorFlow is it a question: XLA halves the speed of convolutions on some CPUs and doubles that of others.
    JAX is made for compilation, and Keras does not compile on PyTorch unless told to.

    Args:
        directory: The cache's directory.
        model: The compiled model; `jit_compile=False` there is the user's word.
        suffix: The model from the boundary on.
        nothing: An array of no rows with the features' shape and dtype.
        batch_size: Images in a batch.
        steps: Training steps that the fit will take.

    Returns:
        The faster setting, or None to leave the model's.
    """
    if keras.backend.backend() != "tensorflow" or not model.jit_compile or steps < LEAST_STEPS:
        return None
    trained = "".join("01"[layer.trainable] for layer in suffix.layers)
    key = " ".join(
        map(str, [machine.node(), keras.version(), suffix.count_params(), nothing.shape, batch_size, trained])
    )
    path = directory / LAYOUT / "jit_compile.json"
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
        if key in known:
            return bool(known[key])
    batch = np.random.default_rng(0).random((batch_size, *nothing.shape[1:]), dtype="float32")
    try:
        seconds = {jit: _training_seconds(suffix, batch, jit) for jit in (False, True)}
    except (NotImplementedError, TypeError, ValueError):  # a layer that cannot be cloned, or compiled
        return None
    faster = seconds[True] < seconds[False]
    with contextlib.suppress(OSError):
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({**known, key: faster}))
    return faster


def _training_seconds(suffix: keras.Model, batch: NDArray[Any], jit_compile: bool) -> float:
    copy = keras.models.clone_model(suffix)
    targets = np.zeros((len(batch), *copy.output_shape[1:]), "float32")
    copy.compile("sgd", "mse", jit_compile=jit_compile)
    copy.train_on_batch(batch, targets)  # compiles
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        copy.train_on_batch(batch, targets)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
