"""Options shared by several `kerasxfer` commands, each declared and read in one place."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from kerasxfer_serving.commands.choices import InterpolationName, ResizeName
from kerasxfer_serving.errors import UsageError
from typer import Option

from kerasxfer.data.tables.columns import TableOptions

IMAGES = "Images"
"""`--help` panel: how images are prepared for the model."""

TABLE = "Labels in a table"
"""`--help` panel: how to read a table of images and labels."""

MODEL = "Model"
"""`--help` panel: what a model file does not say by itself."""


class Exif(StrEnum):
    """What to do with the orientation that a camera has recorded."""

    apply = "apply"
    ignore = "ignore"


class OnError(StrEnum):
    """What to do with images that cannot be read."""

    stop = "raise"
    skip = "skip"


ImageSizeOption: TypeAlias = Annotated[
    str,
    Option(
        help="Size of the model's input in pixels: HEIGHTxWIDTH, or one number for a square.", rich_help_panel=IMAGES
    ),
]
OnErrorOption: TypeAlias = Annotated[
    OnError, Option(help="Stop at an image that cannot be read, or skip it.", rich_help_panel=IMAGES)
]
BatchSizeOption: TypeAlias = Annotated[int, Option(min=1, help="Images per batch.")]
PreprocessInputOption: TypeAlias = Annotated[
    str | None,
    Option(
        help="keras.applications module whose preprocess_input a Lambda layer calls, such as vgg16.",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
CacheOption: TypeAlias = Annotated[
    Path | None, Option(help="Folder for cached activations. Defaults to OUT/cache.", show_default=False)
]


@dataclass(frozen=True)
class PolicyOptions:
    """How an image is prepared for the model."""

    resize: Annotated[
        ResizeName, Option(help="How images are fitted to the model's input.", rich_help_panel=IMAGES)
    ] = ResizeName.stretch
    interpolation: Annotated[InterpolationName, Option(help="Resampling filter.", rich_help_panel=IMAGES)] = (
        InterpolationName.bilinear
    )
    exif: Annotated[
        Exif, Option(help="Apply the EXIF orientation of images, or ignore it.", rich_help_panel=IMAGES)
    ] = Exif.apply
    draft: Annotated[
        bool,
        Option("--draft", help="Decode large JPEGs faster, with slightly different pixels.", rich_help_panel=IMAGES),
    ] = False

    def fields(self) -> dict[str, Any]:
        """The fields of the `kerasxfer_serving.ImagePolicy` that the options describe."""
        return {
            "interpolation": self.interpolation.value,
            "resize": self.resize.value,
            "exif": self.exif.value,
            "draft": self.draft,
        }


@dataclass(frozen=True)
class BackboneOptions:
    """The pretrained network."""

    backbone: Annotated[str, Option(help="A model of keras.applications, or DemoVGG.", rich_help_panel=MODEL)] = "VGG16"
    backbone_output: Annotated[
        str | None,
        Option(help="Inner layer to take features from, such as mixed7.", rich_help_panel=MODEL, show_default=False),
    ] = None
    backbone_args: Annotated[
        str | None,
        Option(help="Extra arguments for the backbone, such as alpha=0.75.", rich_help_panel=MODEL, show_default=False),
    ] = None
    preprocess: Annotated[
        str | None,
        Option(
            help="Normalisation of pixels: caffe, tf, torch, rescale or none. Defaults to the backbone's own.",
            rich_help_panel=MODEL,
            show_default=False,
        ),
    ] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Extra arguments for the backbone."""
        return assignments("--backbone-args", self.backbone_args)


@dataclass(frozen=True)
class TableOfImages:
    """Where the images of a table are."""

    images: Annotated[
        Path | None,
        Option(
            help="Folder that paths in the table are relative to. Defaults to the table's own folder.",
            rich_help_panel=TABLE,
            show_default=False,
        ),
    ] = None
    image_column: Annotated[
        str | None,
        Option(
            help="Column with the image paths. Defaults to the first of image, path, file_name, …, id.",
            rich_help_panel=TABLE,
            show_default=False,
        ),
    ] = None

    def said(self) -> TableOptions:
        """The options as `TableOptions`."""
        return TableOptions(root=str(self.images) if self.images else None, image_column=self.image_column)


@dataclass(frozen=True)
class TableOfLabels(TableOfImages):
    """Where their labels are."""

    label_column: Annotated[
        list[str] | None,
        Option(
            help="Column with the labels; repeat it for one column per class. Defaults to label, class, category, …",
            rich_help_panel=TABLE,
            show_default=False,
        ),
    ] = None
    separator: Annotated[
        str | None,
        Option(
            help="Separator between several labels. Detected among | ; and , by default; `split` takes |.",
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
    """Which images belong together."""

    group_column: Annotated[
        str | None,
        Option(
            help="Column, such as patient, whose groups are never split.", rich_help_panel=TABLE, show_default=False
        ),
    ] = None
    group_pattern: Annotated[
        str | None,
        Option(
            help="Regular expression for the group in a path, such as 'patient[0-9]+'; for folders too.",
            rich_help_panel=TABLE,
            show_default=False,
        ),
    ] = None

    def said(self) -> TableOptions:
        return replace(super().said(), group_column=self.group_column, group_pattern=self.group_pattern)


@dataclass(frozen=True)
class TableWithSplit(TableWithGroups):
    """Which subset each image belongs to."""

    split_column: Annotated[
        str | None,
        Option(
            help="Column that says train, validation or test; '' for none. Defaults to split, if it exists.",
            rich_help_panel=TABLE,
            show_default=False,
        ),
    ] = None

    def said(self) -> TableOptions:
        return replace(super().said(), split_column=self.split_column)


@dataclass(frozen=True)
class TableToTrainOn(TableWithSplit):
    """How much each image counts."""

    weight_column: Annotated[
        str | None,
        Option(help="Column with each row's weight in the loss.", rich_help_panel=TABLE, show_default=False),
    ] = None

    def said(self) -> TableOptions:
        return replace(super().said(), weight_column=self.weight_column)


def assignments(option: str, text: str | None) -> dict[str, Any]:
    """Read `rotation_range=40,horizontal_flip=true`.

    For `--augment`, `standard` means the augmentation of the Keras tutorials, and `rand` means `rand=true`.

    Args:
        option: The option, for the message.
        text: Its value; `None` if not given.

    Raises:
        UsageError: The value is not a list of such assignments.
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
            raise UsageError(f"`{option}` takes NAME=VALUE pairs, separated by commas. Received: {item}")
    return values


def _value(option: str, item: str, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"Values of `{option}` are numbers, words, true or false. Received: {item}") from None
