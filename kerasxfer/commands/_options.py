"""The options that several commands of `kerasxfer` share, each declared and read once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from kerasxfer_serving.commands.choices import InterpolationName, ResizeName
from kerasxfer_serving.errors import UsageError
from typer import Option

IMAGES = "Images"
"""Panel of `--help` with what is done to images before the model sees them."""

MODEL = "Model"
"""Panel of `--help` with what is known about a model besides its file."""


class Exif(StrEnum):
    """What to do about the orientation that a camera has noted."""

    apply = "apply"
    ignore = "ignore"


class OnError(StrEnum):
    """What to do about images that cannot be read."""

    stop = "raise"
    skip = "skip"


ImageSizeOption: TypeAlias = Annotated[
    str, Option(help="Size of the model's input in pixels: HEIGHTxWIDTH, or one side.", rich_help_panel=IMAGES)
]
ResizeOption: TypeAlias = Annotated[
    ResizeName, Option(help="How an image is brought to that shape.", rich_help_panel=IMAGES)
]
InterpolationOption: TypeAlias = Annotated[
    InterpolationName, Option(help="Filter that the resize uses.", rich_help_panel=IMAGES)
]
ExifOption: TypeAlias = Annotated[
    Exif, Option(help="Turn images as their EXIF orientation says, or not.", rich_help_panel=IMAGES)
]
OnErrorOption: TypeAlias = Annotated[
    OnError, Option(help="Stop at images that cannot be read, or leave them out.", rich_help_panel=IMAGES)
]
BatchSizeOption: TypeAlias = Annotated[int, Option(min=1, help="Number of images in a batch.")]
PreprocessInputOption: TypeAlias = Annotated[
    str | None,
    Option(
        help="Application of the preprocess_input that a Lambda layer calls: vgg16, resnet50, …",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
CacheOption: TypeAlias = Annotated[
    Path | None, Option(help="Folder for cached activations. Defaults to OUT/cache.", show_default=False)
]


def policy(resize: ResizeName, interpolation: InterpolationName, exif: Exif) -> dict[str, Any]:
    """The fields of the `kerasxfer_serving.ImagePolicy` that the options describe."""
    return {"interpolation": interpolation.value, "resize": resize.value, "exif": exif.value, "draft": False}


def assignments(option: str, text: str | None) -> dict[str, Any]:
    """Read `rotation_range=40,horizontal_flip=true`; `standard` stands for the tutorials' augmentation.

    Args:
        option: The option, for the message.
        text: Its value; `None` where it is not given.

    Raises:
        UsageError: It is not a list of such assignments.
    """
    values: dict[str, Any] = {}
    for item in filter(None, map(str.strip, (text or "").split(","))):
        name, equals, value = item.partition("=")
        if name == "standard" and not equals and option == "--augment":
            from kerasxfer.layers.augmentation import STANDARD_AUGMENTATION

            values |= STANDARD_AUGMENTATION
        elif equals and name.isidentifier():
            values[name] = _value(option, item, value)
        else:
            raise UsageError(f"`{option}` takes NAME=VALUE, separated by commas. Received: {item}")
    return values


def _value(option: str, item: str, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"`{option}` takes numbers, words, true or false as values. Received: {item}") from None
