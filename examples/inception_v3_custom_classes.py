"""InceptionV3 for your own classes: a head with average pooling, dropout and softmax, then the upper blocks."""

import argparse
import time

from _common import Result, arguments, classifier, folders
from kerasxfer_serving import Predictor

import kerasxfer
from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing

OPTIONS = {
    "backbone": "InceptionV3",
    "epochs": 5,
    "unfreeze": "2",
    "published": {"head": "average", "dropout": 0.4, "optimizer": "adam", "learning_rate": 1e-3},
}


def run(args: argparse.Namespace) -> Result:
    """Train the head, then the upper blocks, and predict one image with the exported model."""
    train, validation = folders(args)
    model = classifier(args, train.class_names, activation="softmax")
    stages = [
        Stage(epochs=args.epochs, name="head"),
        Stage(args.unfreeze, epochs=args.fine_tune_epochs, learning_rate=args.fine_tune_rate, name="upper blocks"),
    ]
    start = time.perf_counter()
    history = kerasxfer.BottleneckCache(args.cache).fit(
        model,
        train,
        validation_data=validation,
        epochs=args.epochs + args.fine_tune_epochs,
        shuffle=False,
        callbacks=[ProgressiveUnfreezing(stages)],
    )
    name = f"{args.backbone} on {', '.join(train.class_names)}"
    result = Result.of(name, model, history, train, validation, time.perf_counter() - start)
    kerasxfer.plot_history(history, args.out / "custom-classes.png", title=name)
    model.save(args.out / "model.keras")

    kerasxfer.export_onnx(model, args.out / "model.onnx", class_names=train.class_names)
    with Predictor(args.out / "model.onnx") as predictor:
        answer = predictor.predict([validation.root / validation.paths[0]])
    print(f"{validation.paths[0]}: {answer.labels[0]} with probability {answer.probabilities[0].max():.3f}")
    return result


if __name__ == "__main__":
    options = arguments(__doc__, **OPTIONS)
    print(run(options))
    print(f"Left in {options.out}: model.keras, model.onnx, custom-classes.png")
