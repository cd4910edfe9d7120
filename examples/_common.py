"""What all recipes share: the command line, the pictures, and one way to state a result."""

import argparse
import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import keras
import yaml

import kerasxfer
from kerasxfer.demo import draw_folder
from kerasxfer.export.parity import Accuracy


def arguments(description: str, *, epochs: int, backbone: str = "VGG16", image_size: int = 150) -> argparse.Namespace:
    """Read the command line; `--quick` stands for small drawn pictures, the demo's backbone and few epochs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", nargs="?", type=Path, help="folder of class folders; may be left out with --quick")
    parser.add_argument("--validation", type=Path, help="folder of class folders; a fifth of DATA by default")
    parser.add_argument("--test", type=Path, help="folder of class folders that no choice has looked at")
    parser.add_argument("--backbone", default=backbone, help="name in keras.applications (default: %(default)s)")
    parser.add_argument("--backbone-output", help="inner layer to take features from, e.g. mixed7")
    parser.add_argument("--backbone-args", default="{}", help='further arguments as YAML, e.g. "{alpha: 0.75}"')
    parser.add_argument("--weights", default="imagenet", help="`imagenet` or a weights file (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=image_size, help="side in pixels (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=epochs, help="default: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of the head (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for curves, caches and models; a temporary one by default")
    parser.add_argument("--quick", action="store_true", help="a minute on drawn pictures, to see that it works")
    args = parser.parse_args()
    args.out = args.out or Path(tempfile.mkdtemp(prefix="kerasxfer-"))
    args.out.mkdir(parents=True, exist_ok=True)
    args.backbone_args = yaml.safe_load(args.backbone_args)
    if args.quick:
        args.backbone, args.backbone_output, args.backbone_args = "DemoVGG", None, {}
        args.weights, args.image_size, args.epochs = "imagenet", 64, min(args.epochs, 2)
        args.data = args.data or draw_folder(args.out / "pictures", ("fish", "house"), per_class=30, size=64)
    elif args.data is None:
        parser.error("DATA is missing: a folder of class folders (or try --quick)")
    keras.utils.set_random_seed(args.seed)
    return args


def folders(args: argparse.Namespace, **options: Any) -> tuple[kerasxfer.ImageFolder, kerasxfer.ImageFolder]:
    """Open training and validation pictures; `options` are the training folder's."""
    size, seed = (args.image_size, args.image_size), args.seed
    if args.validation:
        train = kerasxfer.ImageFolder(args.data, size, seed=seed, **options)
        return train, kerasxfer.ImageFolder(args.validation, size, shuffle=False)
    split: dict[str, Any] = {"seed": seed, "validation_split": 0.2}
    train = kerasxfer.ImageFolder(args.data, size, subset="training", **split, **options)
    return train, kerasxfer.ImageFolder(args.data, size, subset="validation", shuffle=False, **split)


def classifier(args: argparse.Namespace, class_names: list[str], **options: Any) -> keras.Model:
    """Build the recipe's frozen backbone with a head."""
    return kerasxfer.image_classifier(
        args.backbone,
        class_names,
        (args.image_size, args.image_size),
        weights=args.weights,
        backbone_output=args.backbone_output,
        backbone_kwargs=args.backbone_args,
        **options,
    )


@dataclasses.dataclass(frozen=True)
class Result:
    """What a recipe reached on pictures that it was not trained on."""

    recipe: str
    accuracy: float
    pictures: int
    seconds: float
    trained: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        accuracy = Accuracy.of(round(self.accuracy * self.pictures), self.pictures)
        return accuracy.low, accuracy.high

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.recipe}: accuracy {self.accuracy:.3f} (95 %: {low:.3f}–{high:.3f}, {self.pictures} pictures), "
            f"{self.seconds:.0f} s, {self.trained:,} parameters trained"
        )


def result(recipe: str, model: keras.Model, pictures: kerasxfer.ImageFolder, seconds: float) -> Result:
    """Evaluate a model that took so many seconds to train."""
    value = float(model.evaluate(pictures, verbose=0, return_dict=True)["accuracy"])
    trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return Result(recipe, value, len(pictures.paths), seconds, trained)
