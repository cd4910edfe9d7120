"""The model of a run, compiled as its configuration says."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.model.task import MULTI_LABEL

from kerasxfer.layers import ClassifierHead
from kerasxfer.models import image_classifier
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.labels import label_metrics


def compiled_model(config: TrainConfig, class_names: list[str]) -> keras.Model:
    """Build and compile the classifier of a run."""
    with _dtype_policy(config.dtype):
        return _compiled_model(config, class_names)


def _compiled_model(config: TrainConfig, class_names: list[str]) -> keras.Model:
    # Seeded: on PyTorch, a Dropout without a seed draws from a global generator, which no checkpoint holds.
    options: dict[str, Any] = {"dropout": config.dropout, "activation": config.activation, "seed": config.seed}
    multi_label = config.task == MULTI_LABEL
    model = image_classifier(
        config.backbone,
        class_names,
        config.image_size,
        weights=config.weights,
        backbone_output=config.backbone_output,
        backbone_kwargs=config.backbone_args,
        preprocess=config.preprocess,
        head=ClassifierHead.from_spec(config.head, len(class_names), name="head", multi_label=multi_label, **options),
    )
    metrics = label_metrics(len(class_names)) if multi_label else ["accuracy"]
    model.compile(optimizer=_optimizer(config), loss=_loss(config), metrics=metrics)
    return model


def _loss(config: TrainConfig) -> keras.losses.Loss:
    if config.activation == "sigmoid":
        return keras.losses.BinaryCrossentropy(label_smoothing=config.label_smoothing)
    if config.soft_targets:
        return keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy()


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _optimizer(config: TrainConfig) -> keras.optimizers.Optimizer:
    wrappers = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}  # by name: the last came with Keras 3.15
    known = {
        name.lower(): value
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer) and name not in wrappers
    }
    if config.optimizer.lower() not in known:
        names = ", ".join(sorted(known))
        raise UsageError(f"`optimizer` must be one of {names}. Received: optimizer={config.optimizer!r}")
    average = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    return known[config.optimizer.lower()](learning_rate=config.learning_rate, **average)
