"""A small convolutional net from scratch, plain and with augmentation and dropout: the baseline to beat."""

import argparse
import time

import keras
from _common import Result, arguments, compiled, folders

import kerasxfer
from kerasxfer.layers.augmentation import STANDARD_AUGMENTATION, Augmentation

OPTIONS = {
    "epochs": 60,
    "optimizer": "adam",
    "rate": 2e-3,
    "dropout": 0.2,
    "published": {"optimizer": "rmsprop", "learning_rate": 1e-3, "epochs": 50, "batch_size": 20, "dropout": 0.5},
}
# Milder than the tutorials': a net that starts from nothing learns faster from images that are less distorted.
MILD_AUGMENTATION = {
    "rotation_range": 15,
    "width_shift_range": 0.1,
    "height_shift_range": 0.1,
    "zoom_range": 0.2,
    "horizontal_flip": True,
}


def published_convnet(classes: int, image_size: int, dropout: float) -> keras.Model:
    """The tutorials' three blocks of convolution and pooling, and one hidden layer."""
    layers = [keras.Input((image_size, image_size, 3)), kerasxfer.layers.Preprocess("rescale")]
    for filters in (16, 32, 64):
        layers += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D()]
    layers += [keras.layers.Flatten(), keras.layers.Dense(512, activation="relu")]
    return keras.Sequential([*layers, *top(classes, dropout)])


def convnet(classes: int, image_size: int, dropout: float) -> keras.Model:
    """Three blocks of two normalised convolutions, wider, and the average in place of the hidden layer."""
    layers = [keras.Input((image_size, image_size, 3)), kerasxfer.layers.Preprocess("tf")]
    for filters, stride in ((32, 2), (64, 1), (128, 1)):
        layers += [*convolution(filters, stride), *convolution(filters, 1), keras.layers.MaxPooling2D()]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), *top(classes, dropout)])


def convolution(filters: int, stride: int) -> list[keras.layers.Layer]:
    """A normalised convolution; the moving averages must settle within a few hundred steps."""
    kernel = keras.layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)
    return [kernel, keras.layers.BatchNormalization(momentum=0.9), keras.layers.ReLU()]


def top(classes: int, dropout: float) -> list[keras.layers.Layer]:
    """Dropout and probabilities: one sigmoid unit for two classes."""
    units, activation = (classes, "softmax") if classes > 2 else (1, "sigmoid")
    return [keras.layers.Dropout(dropout), keras.layers.Dense(units, activation=activation)]


def run(args: argparse.Namespace, *, augmented: bool) -> Result:
    """Train once."""
    augmentation = STANDARD_AUGMENTATION if args.as_published else MILD_AUGMENTATION
    train, validation = folders(args, augmentation=Augmentation(**augmentation) if augmented else None)
    build = published_convnet if args.as_published else convnet
    model = build(len(train.class_names), args.image_size, args.dropout if augmented else 0.0)
    decay = keras.optimizers.schedules.CosineDecay(args.learning_rate, args.epochs * len(train))
    compiled(model, args, args.learning_rate if args.as_published else decay)
    start = time.perf_counter()
    history = model.fit(train, validation_data=validation, epochs=args.epochs, shuffle=False)
    seconds = time.perf_counter() - start
    name = "scratch, augmented" if augmented else "scratch"
    kerasxfer.plot_history(history, args.out / f"{name.replace(', ', '-')}.png", title=name)
    return Result.of(name, model, history, train, validation, seconds)


if __name__ == "__main__":
    options = arguments(__doc__, **OPTIONS)
    print(run(options, augmented=False))
    print(run(options, augmented=True))
    print(f"Curves: {options.out}/scratch*.png")
