"""The options that several commands of `kerasxfer` share, each declared and read once."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from kerasxfer_serving.commands.choices import InterpolationName, ResizeName
from kerasxfer_serving.errors import UsageError
from typer import Option

from kerasxfer.data.tables.columns import TableOptions

IMAGES = "Images"
"""Panel of `--help` with what is done to images before the model sees them."""

TABLE = "Labels in a table"
"""Panel of `--help` with what is said about a table of images and labels."""

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


@dataclass(frozen=True)
class PolicyOptions:
    """What becomes of an image before the model sees it."""

    resize: Annotated[ResizeName, Option(help="How an image is brought to that shape.", rich_help_panel=IMAGES)] = (
        ResizeName.stretch
    )
    interpolation: Annotated[InterpolationName, Option(help="Filter that the resize uses.", rich_help_panel=IMAGES)] = (
        InterpolationName.bilinear
    )
    exif: Annotated[
        Exif, Option(help="Turn images as their EXIF orientation says, or not.", rich_help_panel=IMAGES)
    ] = Exif.apply

    def fields(self) -> dict[str, Any]:
        """The fields of the `kerasxfer_serving.ImagePolicy` that the options describe."""
        return {
            "interpolation": self.interpolation.value,
            "resize": self.resize.value,
            "exif": self.exif.value,
            "draft": False,
        }


@dataclass(frozen=True)
class BackboneOptions:
    """The pretrained network."""

    backbone: Annotated[
        str, Option(help="Name of a network in keras.applications, or DemoVGG.", rich_help_panel=MODEL)
    ] = "VGG16"
    backbone_output: Annotated[
        str | None,
        Option(help="Inner layer to take features from, as mixed7.", rich_help_panel=MODEL, show_default=False),
    ] = None
    backbone_args: Annotated[
        str | None,
        Option(help="Further arguments of the network, as alpha=0.75.", rich_help_panel=MODEL, show_default=False),
    ] = None
    preprocess: Annotated[
        str | None,
        Option(
            help="What is done to pixels first: caffe, tf, torch, rescale or none. Defaults to the network's own.",
            rich_help_panel=MODEL,
            show_default=False,
        ),
    ] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The network's further arguments."""
        return assignments("--backbone-args", self.backbone_args)


@dataclass(frozen=True)
class TableOfImages:
    """Where a table's images are."""

    images: Annotated[
        Path | None,
        Option(
            help="Folder that a table's paths begin in. Defaults to the table's.",
            rich_help_panel=TABLE,
            show_default=False,
        ),
    ] = None
    image_column: Annotated[
        str | None,
        Option(
            help="Column of a table's images. Defaults to image, path, file_name, …, id.",
            rich_help_panel=TABLE,
            show_default=False,
        ),
    ] = None

    def said(self) -> TableOptions:
        """What the options say about tables."""
        return TableOptions(root=str(self.images) if self.images else None, image_column=self.image_column)


@dataclass(frozen=True)
class TableOfLabels(TableOfImages):
    """And what their labels are."""

    label_column: Annotated[
        list[str] | None,
        Option(
            help="Column of its labels, or one for each class. Defaults to label, class, category, target, …",
            rich_help_panel=TABLE,
            show_default=False,
        ),
    ] = None
    separator: Annotated[
        str | None,
        Option(
            help="What stands between several labels. Defaults to the one of | ; , that is there.",
            rich_help_panel=TABLE,
            show_default=False,
        ),
    ] = None

    def said(self) -> TableOptions:
        columns = tuple(self.label_column or ())
        label_column = columns if len(columns) > 1 else next(iter(columns), None)
        return replace(super().said(), label_column=label_column, separator=self.separator)


@dataclass(frozen=True)
class TableWithGroups(TableOfLabels):
    """And which images belong together."""

    group_column: Annotated[
        str | None,
        Option(help="Column of groups that no split divides, as patient.", rich_help_panel=TABLE, show_default=False),
    ] = None
    group_pattern: Annotated[
        str | None,
        Option(
            help="Regular expression that finds the group in a path, as 'patient[0-9]+'; for folders too.",
            rich_help_panel=TABLE,
            show_default=False,
        ),
    ] = None

    def said(self) -> TableOptions:
        return replace(super().said(), group_column=self.group_column, group_pattern=self.group_pattern)


@dataclass(frozen=True)
class TableWithSplit(TableWithGroups):
    """And which are for what."""

    split_column: Annotated[
        str | None,
        Option(
            help="Column of train, validation and test. Defaults to split, if there is one.",
            rich_help_panel=TABLE,
            show_default=False,
        ),
    ] = None

    def said(self) -> TableOptions:
        return replace(super().said(), split_column=self.split_column)


@dataclass(frozen=True)
class TableToTrainOn(TableWithSplit):
    """And how much each counts."""

    weight_column: Annotated[
        str | None,
        Option(help="Column of the rows' weights in the loss.", rich_help_panel=TABLE, show_default=False),
    ] = None

    def said(self) -> TableOptions:
        return replace(super().said(), weight_column=self.weight_column)


def assignments(option: str, text: str | None) -> dict[str, Any]:
    """Read `rotation_range=40,horizontal_flip=true`.

    Of `--augment`, `standard` stands for the tutorials' augmentation, and `rand` for `rand=true`.

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
        elif name == "rand" and not equals and option == "--augment":
            values[name] = True
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
