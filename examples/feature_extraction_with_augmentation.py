"""Train on augmented images through a frozen base, end to end, compared with cached augmented copies."""

import argparse
import time

import keras
from _common import Result, arguments, classifier, folders

import kerasxfer
from kerasxfer.layers.augmentation import STANDARD_AUGMENTATION, Augmentation

OPTIONS = {
    "epochs": 20,
    "copies": 5,
    "published": {
        "head": "flatten-256",
        "learning_rate": 2e-5,
        "epochs": 30,
        "batch_size": 20,
        "preprocess": "rescale",
    },
}


def run(args: argparse.Namespace, *, copies: int = 0) -> Result:
    """Train a head on images augmented anew in every epoch, or on `copies` fixed augmented copies of each image."""
    augmentation = Augmentation(**STANDARD_AUGMENTATION)
    train, validation = folders(args, augmentation=augmentation)
    model = classifier(args, train.class_names)
    cache = kerasxfer.BottleneckCache(args.cache, copies=copies)
    fit = cache.fit if copies else keras.Model.fit
    start = time.perf_counter()
    history = fit(model, train, validation_data=validation, epochs=args.epochs, shuffle=False)
    seconds = time.perf_counter() - start
    name = f"augmented, {copies} cached copies" if copies else "augmented, end to end"
    kerasxfer.plot_history(history, args.out / f"augmented-{copies or 'end-to-end'}.png", title=name)
    return Result.of(name, model, history, train, validation, seconds)


if __name__ == "__main__":
    options = arguments(__doc__, **OPTIONS)
    print(run(options))
    print(run(options, copies=options.copies))
    print(f"Curves: {options.out}/augmented-*.png")
