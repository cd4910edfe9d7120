"""Train the head, then unfreeze the last block of the backbone, in one `fit` from the cache in both stages.

With `--copies K` the epochs take turns with K cached augmented copies of each image.
"""

import argparse
import time

from _common import Result, arguments, classifier, folders, with_interval

import kerasxfer
from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing, SmoothedMetricsLogger
from kerasxfer.layers.augmentation import STANDARD_AUGMENTATION, Augmentation

OPTIONS = {
    "epochs": 10,
    "unfreeze": "block5",
    "published": {
        "head": "flatten-256",
        "learning_rate": 2e-5,
        "epochs": 30,
        "fine_tune_rate": 1e-5,
        "fine_tune_epochs": 100,
        "batch_size": 20,
        "preprocess": "rescale",
    },
}


def run(args: argparse.Namespace) -> Result:
    """Train the head for `epochs`, then also `unfreeze` at a small learning rate."""
    augmentation = Augmentation(**STANDARD_AUGMENTATION) if args.copies else None
    train, validation = folders(args, augmentation=augmentation)
    model = classifier(args, train.class_names)
    stages = [
        Stage(epochs=args.epochs),
        Stage(args.unfreeze, epochs=args.fine_tune_epochs, learning_rate=args.fine_tune_rate, warmup=1),
    ]
    unfreezing = ProgressiveUnfreezing(stages)
    unfreezing.plan(model)
    start = time.perf_counter()
    history = kerasxfer.BottleneckCache(args.cache, copies=args.copies).fit(
        model,
        train,
        validation_data=validation,
        epochs=args.epochs + args.fine_tune_epochs,
        shuffle=False,
        callbacks=[SmoothedMetricsLogger(), unfreezing],
    )
    seconds = time.perf_counter() - start
    kerasxfer.plot_history(history, args.out / "fine-tuned.png", title=f"{args.backbone}: head, then {stages[1].name}")
    model.save(args.out / "fine-tuned.keras")
    if args.test:
        unseen = kerasxfer.ImageFolder(args.test, (args.image_size, args.image_size), shuffle=False)
        accuracy = model.evaluate(unseen, verbose=0, return_dict=True)["accuracy"]
        print(f"On the {len(unseen.paths)} test images: accuracy {with_interval(accuracy, len(unseen.paths))}")
    return Result.of("fine-tuned", model, history, train, validation, seconds)


if __name__ == "__main__":
    options = arguments(__doc__, **OPTIONS)
    print(run(options))
    print(f"Smoothed curves: {options.out / 'fine-tuned.png'}, model: {options.out / 'fine-tuned.keras'}")
