"""What all recipes share: the command line, the images, the model, and one way to state a result."""

import argparse
import dataclasses
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import yaml

import kerasxfer
from kerasxfer.demo import draw_folder
from kerasxfer.estimate import Estimate

Rate = float | keras.optimizers.schedules.LearningRateSchedule
QUICK = {"backbone": "DemoVGG", "backbone_output": None, "backbone_args": "{}", "weights": "imagenet", "image_size": 32}


def arguments(
    description: str,
    *,
    epochs: int,
    backbone: str = "VGG16",
    head: str = "average-256",
    dropout: float = 0.5,
    optimizer: str = "rmsprop",
    rate: float = 1e-4,
    unfreeze: str = "1",
    copies: int = 0,
    published: Mapping[str, Any] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    argv: Sequence[str] | None = None,
) -> argparse.Namespace:
    """Read the command line.

    `--as-published` puts the tutorial's settings, `published`, in place of our defaults; `--quick` stands for a few
    small synthetic images, the demo's backbone and one epoch.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("data", nargs="?", type=Path, help="class folders; not needed with --quick")
    add("--validation", type=Path, help="class folders; if omitted, a fifth of DATA")
    add("--test", type=Path, help="class folders that no decision has used")
    add("--backbone", default=backbone, help="a model of keras.applications")
    add("--backbone-output", help="inner layer to take features from, such as mixed7")
    add("--backbone-args", default="{}", help='extra arguments as YAML, such as "{alpha: 0.75}"')
    add("--weights", default="imagenet", help="`imagenet` or a weights file")
    add("--preprocess", help="rescale, caffe, tf or torch; if omitted, what the backbone's weights expect")
    add("--image-size", type=int, default=150, help="height and width in pixels")
    add("--head", default=head, help="`flatten` or `average`, then hidden units")
    add("--dropout", type=float, default=dropout)
    add("--optimizer", choices=("adam", "rmsprop", "sgd"), default=optimizer, help="sgd uses momentum 0.9")
    add("--learning-rate", type=float, default=rate, help="of the head")
    add(
        "--unfreeze",
        default=unfreeze,
        help="block to fine-tune from, or number of blocks from the top; for recipes that fine-tune",
    )
    add("--fine-tune-rate", type=float, default=1e-5, help="learning rate of fine-tuning")
    add("--fine-tune-epochs", type=int, help="epochs of fine-tuning; if omitted, as many as --epochs")
    add(
        "--copies",
        type=int,
        default=copies,
        help="augmented copies of each image in the cache, for recipes that use them",
    )
    add("--epochs", type=int, default=epochs, help="of each stage")
    add("--batch-size", type=int, default=32)
    add("--seed", type=int, default=0)
    add("--out", type=Path, help="folder for curves, caches and models; if omitted, a temporary one")
    add("--cache", type=Path, help="folder of cached features; if omitted, `cache` in the output folder")
    parser.set_defaults(as_published=False)
    if published:
        settings = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in published.items())
        add("--as-published", action="store_true", help=f"the tutorial's own settings: {settings}")
    add("--quick", action="store_true", help="run on synthetic images in seconds, to see that it works")
    for option, settings in (more or {}).items():
        add(option, **settings)
    if published and parser.parse_args(argv).as_published:
        parser.set_defaults(**published)
    args = parser.parse_args(argv)
    args.out = args.out or Path(tempfile.mkdtemp(prefix="kerasxfer-"))
    args.out.mkdir(parents=True, exist_ok=True)
    args.cache = args.cache or args.out / "cache"
    args.fine_tune_epochs = args.fine_tune_epochs or args.epochs
    if args.quick:
        vars(args).update(QUICK, epochs=1, fine_tune_epochs=1)
        for seed, name in enumerate(("data", "test")):
            images = args.out / f"drawn-{name}"
            vars(args)[name] = vars(args)[name] or draw_folder(images, ("fish", "house"), 20, size=32, seed=seed)
    elif args.data is None:
        parser.error("DATA is missing: a folder of class folders (or try --quick)")
    args.backbone_args = yaml.safe_load(args.backbone_args)
    args.unfreeze = int(args.unfreeze) if args.unfreeze.isdecimal() else args.unfreeze
    keras.utils.set_random_seed(args.seed)
    return args


def folders(args: argparse.Namespace, **options: Any) -> tuple[kerasxfer.ImageFolder, kerasxfer.ImageFolder]:
    """Open training and validation images; `options` are the training folder's."""
    size = (args.image_size, args.image_size)
    common: dict[str, Any] = {"batch_size": args.batch_size, "seed": args.seed}
    if args.validation:
        train = kerasxfer.ImageFolder(args.data, size, **common, **options)
        return train, kerasxfer.ImageFolder(args.validation, size, shuffle=False, **common)
    common["validation_split"] = 0.2
    train = kerasxfer.ImageFolder(args.data, size, subset="training", **common, **options)
    return train, kerasxfer.ImageFolder(args.data, size, subset="validation", shuffle=False, **common)


def classifier(args: argparse.Namespace, class_names: list[str], activation: str | None = None) -> keras.Model:
    """Build a frozen backbone with a head and compile it: one sigmoid unit for two classes, softmax for more."""
    model = kerasxfer.image_classifier(
        args.backbone,
        class_names,
        (args.image_size, args.image_size),
        weights=args.weights,
        backbone_output=args.backbone_output,
        backbone_kwargs=args.backbone_args,
        preprocess=args.preprocess,
        head=args.head,
        dropout=args.dropout,
        activation=activation or ("sigmoid" if len(class_names) == 2 else "softmax"),
    )
    return compiled(model, args)


def compiled(model: keras.Model, args: argparse.Namespace, rate: Rate | None = None) -> keras.Model:
    """Compile for whole-number labels; `rate` takes the place of the command line's."""
    config = {"learning_rate": rate or args.learning_rate} | ({"momentum": 0.9} if args.optimizer == "sgd" else {})
    optimizer = keras.optimizers.get({"class_name": args.optimizer, "config": config})
    loss = "binary_crossentropy" if model.output_shape[-1] == 1 else "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


@dataclasses.dataclass(frozen=True)
class Result:
    """What a recipe reached on images that it was not trained on; `rate` is training images a second."""

    recipe: str
    accuracy: float
    images: int
    seconds: float
    rate: float
    trained: int
    history: dict[str, list[float]]

    @classmethod
    def of(cls, recipe: str, model: keras.Model, history: Any, train: Any, validation: Any, seconds: float) -> "Result":
        """After the last epoch, which is no choice that has looked at the validation images."""
        rate = len(history.epoch) * len(train.paths) / seconds
        trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
        accuracy, images = history.history["val_accuracy"][-1], len(validation.paths)
        return cls(recipe, accuracy, images, seconds, rate, trained, history.history)

    def __str__(self) -> str:
        return (
            f"{self.recipe}: accuracy {with_interval(self.accuracy, self.images)} on {self.images} images; "
            f"{self.seconds:.1f} s, {self.rate:.0f} images/s; {self.trained:,} parameters trained"
        )


def with_interval(accuracy: float, images: int) -> str:
    """Write an accuracy with its 95 % interval."""
    interval = Estimate.of_share(round(accuracy * images), images)
    return f"{accuracy:.3f} ({interval.low:.3f}–{interval.high:.3f})"
