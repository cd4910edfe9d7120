"""A small convolutional net from scratch, plain and with augmentation and dropout: what there is to beat."""

import argparse
import time

import keras
from _common import Result, arguments, compiled, folders

import kerasxfer
from kerasxfer.layers.augmentation import STANDARD_AUGMENTATION


def convnet(classes: int, image_size: int, dropout: float) -> keras.Model:
    """Three blocks of convolution and pooling, one hidden layer."""
    layers = [keras.Input((image_size, image_size, 3)), kerasxfer.layers.Preprocess("rescale")]
    for filters in (16, 32, 64):
        layers += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D()]
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(classes if classes > 2 else 1, activation="softmax" if classes > 2 else "sigmoid"),
    ]
    return keras.Sequential(layers)


def run(args: argparse.Namespace, *, augmented: bool) -> Result:
    """Train once."""
    augmentation = kerasxfer.layers.Augmentation(**STANDARD_AUGMENTATION) if augmented else None
    train, validation = folders(args, augmentation=augmentation)
    model = compiled(convnet(len(train.class_names), args.image_size, args.dropout if augmented else 0.0), args)
    start = time.perf_counter()
    history = model.fit(train, validation_data=validation, epochs=args.epochs, shuffle=False)
    seconds = time.perf_counter() - start
    name = "scratch, augmented" if augmented else "scratch"
    kerasxfer.plot_history(history, args.out / f"{name.replace(', ', '-')}.png", title=name)
    return Result.of(name, model, history, train, validation, seconds)


if __name__ == "__main__":
    options = arguments(__doc__, epochs=20)
    print(run(options, augmented=False))
    print(run(options, augmented=True))
    print(f"Curves: {options.out}/scratch*.png")
