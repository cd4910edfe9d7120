"""Fit beside callbacks that people have, whole and on cached features, and compare the weights with those without.

    KERAS_BACKEND=jax python scripts/callbacks.py

Prints a line for each callback. MLflow's is left out where `mlflow` is not installed (`pip install mlflow-skinny`).
"""

import contextlib
import functools
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

import kerasxfer
from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing, SmoothedMetricsLogger

EPOCHS = 4
STAGES = (Stage(epochs=2, learning_rate=1e-3), Stage("block5", learning_rate=1e-4))


@contextlib.contextmanager
def none(folder: Path) -> Iterator[list[Any]]:
    yield []


@contextlib.contextmanager
def backup_and_rate(folder: Path) -> Iterator[list[Any]]:
    yield [
        keras.callbacks.BackupAndRestore(folder / "backup"),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate),
    ]


@contextlib.contextmanager
def averages(folder: Path) -> Iterator[list[Any]]:
    yield [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]


@contextlib.contextmanager
def mlflow(folder: Path) -> Iterator[list[Any]]:
    import mlflow
    from mlflow.keras import MlflowCallback

    mlflow.set_tracking_uri((folder / "mlruns").as_uri())
    with mlflow.start_run() as run:
        yield [MlflowCallback()]
    mlflow.flush_async_logging()  # the callback logs in another thread
    for name in ("loss", "smoothed_loss", "stage"):
        steps = [metric.step for metric in mlflow.MlflowClient().get_metric_history(run.info.run_id, name)]
        assert sorted(steps) == list(range(EPOCHS)), f"{name} came for the epochs {steps}"


def trained(fit: Callable[..., Any], model: keras.Model, callbacks: list[Any]) -> list[np.ndarray]:
    """The weights after training on images whose class is their brightest channel."""
    generator = np.random.default_rng(0)
    labels = np.arange(24) % 3
    images = generator.integers(0, 190, (24, 32, 32, 3)).astype("float32")
    images[np.arange(24), :, :, labels] += 60
    ours = [SmoothedMetricsLogger(), ProgressiveUnfreezing(STAGES, verbose=0)]
    fit(images, labels, epochs=EPOCHS, batch_size=8, shuffle=False, verbose=0, callbacks=[*ours, *callbacks])
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]


def compare(beside: Callable[[Path], contextlib.AbstractContextManager[list[Any]]], *, ema: bool) -> float:
    """The largest difference between weights: with and without the callbacks, by `fit` and by `BottleneckCache.fit`."""
    results = []
    for callbacks, cached in ((none, False), (beside, False), (beside, True)):
        keras.utils.set_random_seed(0)
        model = kerasxfer.image_classifier("DemoVGG", ("red", "green", "blue"), (32, 32), weights=None)
        model.compile(keras.optimizers.Adam(1e-3, use_ema=ema, ema_momentum=0.5), "sparse_categorical_crossentropy")
        with tempfile.TemporaryDirectory() as folder, callbacks(Path(folder)) as others:
            cache = kerasxfer.BottleneckCache(Path(folder) / "cache", verbose=0)
            fit = functools.partial(cache.fit, model) if cached else model.fit
            results.append(trained(fit, model, others))
    without, *others = results
    if ema:  # `SwapEMAWeights` puts other weights in place, which both ways of fitting must agree on
        without, *others = others
    return max(float(np.abs(a - b).max()) for each in others for a, b in zip(without, each, strict=True))


def main() -> None:
    """Print the largest difference for each callback."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    rows = {"BackupAndRestore, LearningRateScheduler": (backup_and_rate, False), "SwapEMAWeights": (averages, True)}
    if importlib.util.find_spec("mlflow"):
        rows["MlflowCallback"] = (mlflow, False)
    for name, (beside, ema) in rows.items():
        print(f"{keras.config.backend()}  {name}: {compare(beside, ema=ema):.1e}", flush=True)


if __name__ == "__main__":
    main()
