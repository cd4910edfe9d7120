"""Run folders as `kerasxfer train` leaves them, made in a second: the model tells red images from green ones."""

import json

import keras
import numpy as np
from PIL import Image

from kerasxfer.callbacks import SmoothedMetricsLogger
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.run_folder import RunRecord


def draw_class_folders(root, class_names, per_class=8, size=24, seed=0):
    """Images from pure red (the first class) to pure green (the last); a tenth of them look like the next class."""
    rng = np.random.default_rng(seed)
    for number, name in enumerate(class_names):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            shown = number + (i % 10 == 9)
            hue = np.clip(shown / max(1, len(class_names) - 1) + rng.normal(0, 0.03), 0, 1)
            pixels = rng.normal([255 * (1 - hue), 255 * hue, 60], 12, (size, size + 8, 3))
            Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(root / name / f"{i:02d}.png")
    return root


def make_model(classes, size):
    """Softmax of the negative distance between an image's mean colour and each class's; one sigmoid unit for two."""
    images = keras.Input((size, size, 3), dtype="uint8", name="images")
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(images))
    centres = np.linspace(0, 1, classes)
    kernel = 30 * np.stack([np.zeros(classes), centres, np.zeros(classes)])  # green alone decides
    bias = -15 * centres**2
    units, activation = classes, "softmax"
    if classes == 2:
        units, activation, kernel, bias = 1, "sigmoid", kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]
    head = keras.layers.Dense(units, activation)
    model = keras.Model(images, head(mean))
    head.set_weights([kernel, bias])
    return model


def make_run(run, class_names, *, per_class=8, epochs=6, size=24, **config):
    """Write a run folder beside its images (`<run>-data`)."""
    data = draw_class_folders(run.parent / f"{run.name}-data", class_names, per_class, size)
    run.mkdir()
    make_model(len(class_names), size).save(run / "model.keras")
    logger = SmoothedMetricsLogger(csv=run / "history.csv")
    logger.on_train_begin()
    for epoch in range(epochs):
        logger.on_epoch_begin(epoch)
        decay = 0.5**epoch
        logs = {"accuracy": 1 - 0.4 * decay, "loss": decay, "val_accuracy": 0.95 - 0.4 * decay, "val_loss": 0.2 + decay}
        logger.on_epoch_end(epoch, logs)
        logs |= {"stage": 1 + (2 * epoch >= epochs), "trainable_params": 40, "learning_rate": 1e-3}
    logger.on_train_end()
    record = RunRecord(
        TrainConfig(
            data=str(data),
            validation=str(data),
            backbone="DemoVGG",
            weights="demo",
            image_size=(size, size),
            dropout=0.5,
            activation="softmax" if len(class_names) > 2 else "sigmoid",
            optimizer="rmsprop",
            epochs=epochs,
            schedule=[{"epochs": epochs // 2}, {"unfreeze": "block5", "epochs": epochs // 2}],
        ),
        class_names=tuple(sorted(class_names)),
        images={"training": 2 * per_class, "validation": len(class_names) * per_class},
        backend=keras.backend.backend(),
        versions={"keras": keras.__version__},
        command=("kerasxfer", "train", str(data)),
        seconds=75.0,
    )
    (run / "config.json").write_text(json.dumps({**record.to_dict(), **config}), encoding="utf-8")
    return run
