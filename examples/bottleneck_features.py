"""Train a head on a frozen backbone's features, which are computed once and cached from then on."""

import argparse
import time

import keras
from _common import Result, arguments, classifier, folders

import kerasxfer
from kerasxfer.callbacks import SmoothedMetricsLogger

OPTIONS = {
    "epochs": 20,
    "published": {
        "head": "flatten-256",
        "learning_rate": 1e-3,
        "epochs": 50,
        "batch_size": 16,
        "preprocess": "rescale",
    },
}


def run(args: argparse.Namespace, *, cached: bool = True, name: str = "bottleneck") -> Result:
    """Train the head; the tutorials use Flatten–256–dropout–sigmoid."""
    train, validation = folders(args)
    model = classifier(args, train.class_names)
    fit = kerasxfer.BottleneckCache(args.cache).fit if cached else keras.Model.fit
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
    return Result.of(name, model, history, train, validation, seconds)


if __name__ == "__main__":
    options = arguments(__doc__, **OPTIONS)
    print(run(options, name="first time, with the backbone's one pass"))
    print(run(options, name="again, from the cache"))
    print(f"Curves: {options.out / 'bottleneck.png'}")
