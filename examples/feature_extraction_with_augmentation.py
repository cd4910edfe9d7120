"""A frozen base under augmented pictures, end to end; and beside it the cache with augmented copies."""

import argparse
import time

import keras
from _common import Result, arguments, classifier, folders, result

import kerasxfer
from kerasxfer.layers.augmentation import STANDARD_AUGMENTATION


def run(args: argparse.Namespace, *, copies: int = 0) -> Result:
    """Train a head on pictures that change with every epoch, or on `copies` fixed changes of each picture."""
    train, validation = folders(args, augmentation=kerasxfer.layers.Augmentation(**STANDARD_AUGMENTATION))
    model = classifier(args, train.class_names, head="flatten-256", dropout=0.5)
    model.compile(keras.optimizers.Adam(args.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    fit = kerasxfer.BottleneckCache(args.out / "cache", copies=copies).fit if copies else keras.Model.fit
    start = time.perf_counter()
    history = fit(model, train, validation_data=validation, epochs=args.epochs, shuffle=False)
    seconds = time.perf_counter() - start
    name = f"augmented, {copies} cached copies" if copies else "augmented, end to end"
    kerasxfer.plot_history(history, args.out / f"augmented-{copies}.png", title=name)
    return result(name, model, validation, seconds)


if __name__ == "__main__":
    options = arguments(__doc__, epochs=10)
    print(run(options))
    print(run(options, copies=3))
    print(f"Curves: {options.out}")
