"""A frozen base under augmented images, end to end; and beside it the cache with augmented copies."""

import argparse
import time

import keras
from _common import Result, arguments, classifier, folders

import kerasxfer
from kerasxfer.layers import Augmentation


def run(args: argparse.Namespace, *, copies: int = 0) -> Result:
    """Train a head on images that change with every epoch, or on `copies` fixed changes of each image."""
    augmentation = Augmentation(
        rotation_range=40,
        width_shift_range=0.2,
        height_shift_range=0.2,
        shear_range=0.2,
        zoom_range=0.2,
        horizontal_flip=True,
    )
    train, validation = folders(args, augmentation=augmentation)
    model = classifier(args, train.class_names)
    cache = kerasxfer.BottleneckCache(args.out / "cache", copies=copies, seed=args.seed)
    fit = cache.fit if copies else keras.Model.fit
    start = time.perf_counter()
    history = fit(model, train, validation_data=validation, epochs=args.epochs, shuffle=False)
    seconds = time.perf_counter() - start
    name = f"augmented, {copies} cached copies" if copies else "augmented, end to end"
    kerasxfer.plot_history(history, args.out / f"augmented-{copies or 'end-to-end'}.png", title=name)
    return Result.of(name, model, history, train, validation, seconds)


if __name__ == "__main__":
    options = arguments(__doc__, epochs=10)
    print(run(options))
    print(run(options, copies=3))
    print(f"Curves: {options.out}/augmented-*.png")
