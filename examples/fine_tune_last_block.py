"""Train the head, then unfreeze the last block of the backbone: one `fit`, from the cache in both stages."""

import argparse
import time

import keras
from _common import Result, arguments, classifier, folders, result

import kerasxfer
from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing, SmoothedMetricsLogger


def run(args: argparse.Namespace, *, blocks: int = 1) -> Result:
    """Train the head for `epochs`, then as long with the topmost blocks."""
    train, validation = folders(args)
    model = classifier(args, train.class_names, dropout=0.4)
    model.compile(keras.optimizers.Adam(args.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    stages = [
        Stage(epochs=args.epochs, name="head"),
        Stage(blocks, epochs=args.epochs, learning_rate="0.1x", warmup=1, restore_best=True, monitor="val_accuracy"),
    ]
    unfreezing = ProgressiveUnfreezing(stages)
    unfreezing.plan(model)
    start = time.perf_counter()
    history = kerasxfer.BottleneckCache(args.out / "cache").fit(
        model,
        train,
        validation_data=validation,
        epochs=2 * args.epochs,
        shuffle=False,
        callbacks=[SmoothedMetricsLogger(), unfreezing],
    )
    seconds = time.perf_counter() - start
    kerasxfer.plot_history(history, args.out / "fine-tuned.png", title=f"{args.backbone}: head, then the last block")
    if args.test:
        unseen = kerasxfer.ImageFolder(args.test, (args.image_size, args.image_size), shuffle=False)
        print(result("on the test folder", model, unseen, seconds))
    return result("fine-tuned", model, validation, seconds)


if __name__ == "__main__":
    options = arguments(__doc__, epochs=5)
    print(run(options))
    print(f"Curves: {options.out / 'fine-tuned.png'}")
