"""Train a head on a frozen backbone's features: computed once, and from the cache ever after."""

import argparse
import time

import keras
from _common import Result, arguments, classifier, folders, result

import kerasxfer
from kerasxfer.callbacks import SmoothedMetricsLogger


def run(args: argparse.Namespace, *, cached: bool = True, name: str = "bottleneck") -> Result:
    """Train a Flatten–256–dropout head."""
    train, validation = folders(args)
    model = classifier(args, train.class_names, head="flatten-256", dropout=0.5)
    model.compile(keras.optimizers.Adam(args.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    fit = kerasxfer.BottleneckCache(args.out / "cache").fit if cached else keras.Model.fit
    start = time.perf_counter()
    history = fit(
        model,
        train,
        validation_data=validation,
        epochs=args.epochs,
        shuffle=False,
        callbacks=[SmoothedMetricsLogger()],
    )
    seconds = time.perf_counter() - start
    kerasxfer.plot_history(history, args.out / "bottleneck.png", title=f"A head on {args.backbone}")
    return result(name, model, validation, seconds)


if __name__ == "__main__":
    options = arguments(__doc__, epochs=30)
    print(run(options, name="first time, with the backbone's one pass"))
    print(run(options, name="again, from the cache"))
    print(f"Curves: {options.out / 'bottleneck.png'}")
