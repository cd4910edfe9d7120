"""Options that describe a model from elsewhere, for every command that runs one."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from kerasxfer_serving.commands import choices
from kerasxfer_serving.commands.options import ROWS, read_size, read_thresholds
from kerasxfer_serving.commands.output import note
from kerasxfer_serving.errors import UsageError

if TYPE_CHECKING:
    from kerasxfer_serving.images import ImagePolicy
    from kerasxfer_serving.model.manifest import Manifest
    from kerasxfer_serving.model.normalisation import Normalisation

_PANEL = "A model from elsewhere"

ThresholdOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Probability threshold for a label: one for all, or cat=0.3,dog=0.6. Default: the model's own.",
        rich_help_panel=ROWS,
        show_default=False,
    ),
]


@dataclass(frozen=True)
class ModelOptions:
    """How the command line describes the model and its input images."""

    preprocess: Annotated[
        choices.PreprocessName | None,
        typer.Option(
            help="Preprocessing the model was trained with. torchvision, timm and clip also set "
            "--interpolation and the crop.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None
    mean: Annotated[
        str | None,
        typer.Option(
            help="Channel means in the model's order (caffe: blue first), such as 0.485,0.456,0.406. --mean, --std and "
            "--scale override --preprocess.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(help="Channel standard deviations.", rich_help_panel=_PANEL, show_default=False),
    ] = None
    scale: Annotated[
        str | None,
        typer.Option(
            help="Factor applied to 0–255 pixels before --mean and --std. Default: 1/255.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Size of the model's input: HxW. Default: the graph's.", rich_help_panel=_PANEL, show_default=False
        ),
    ] = None
    layout: Annotated[
        choices.Layout | None,
        typer.Option(
            help="Order of the input's axes. Default: the graph's.", rich_help_panel=_PANEL, show_default=False
        ),
    ] = None
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File of class names: one per line, CSV or JSON.", rich_help_panel=_PANEL, show_default=False
        ),
    ] = None
    activation: Annotated[
        choices.ActivationName | None,
        typer.Option(help="What the output holds. Default: read from the graph.", rich_help_panel=_PANEL),
    ] = None
    multi_label: Annotated[
        bool,
        typer.Option("--multi-label", help="Images have any number of labels.", rich_help_panel=_PANEL),
    ] = False
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="NAME",
            help="Output that holds the class scores, if there are several.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    resize: Annotated[
        choices.ResizeName | None,
        typer.Option(
            help="How images are fitted to the model's input. Default: stretch.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None
    crop_fraction: Annotated[
        float | None,
        typer.Option(
            help="Crop like torchvision and timm: 0.875 resizes to 256 and crops 224.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None
    interpolation: Annotated[
        choices.InterpolationName | None,
        typer.Option(help="Pillow's resampling filter. Default: bilinear.", rich_help_panel=_PANEL, show_default=False),
    ] = None
    draft: Annotated[
        bool, typer.Option("--draft", help="Decode large JPEGs faster, with slightly different pixels.")
    ] = False
    decode: Annotated[
        choices.Decode,
        typer.Option(
            help="`gpu` decodes JPEG files on the GPU that runs the model, if its pixels are close enough to Pillow's."
        ),
    ] = choices.Decode.pillow
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most pixels an image may have. Default: 50 to 120 million, depending on memory.",
            show_default=False,
        ),
    ] = None

    def manifest(self, model: Path, sha256: str | None = None, threshold: str | None = None) -> "Manifest | None":
        """The manifest that the options make or change; `None` for the model's own. Prints what it inferred.

        Args:
            model: The .onnx file.
            sha256: Hash that the file must have.
            threshold: Probability threshold for the labels of a multi-label model.

        Raises:
            UsageError: The options describe a model that has its own manifest.
        """
        from kerasxfer_serving.model.manifest import Manifest

        manifest = self._described(model, sha256) if self._describes() else self._with_limits(model)
        return manifest if threshold is None else _with_thresholds(manifest or Manifest.read(model), threshold)

    def _described(self, model: Path, sha256: str | None) -> "Manifest":
        from kerasxfer_serving.model import foreign
        from kerasxfer_serving.model.model_file import load_model_file

        manifest = foreign.describe(
            load_model_file(model, sha256=sha256),
            normalisation=self._normalisation(),
            image_size=read_size("--image-size", self.image_size) if self.image_size else None,
            layout=self.layout.value if self.layout else None,
            class_names=foreign.read_labels(self.labels) if self.labels else None,
            output=self.activation.value if self.activation else None,
            output_name=self.output,
            policy=self._policy(),
            multi_label=self.multi_label,
        )
        note(_summary(manifest))
        return manifest

    def _describes(self) -> bool:
        return any(value is not None for value in (self.preprocess, self.mean, self.std, self.scale))

    def _refuse_descriptions(self) -> None:
        names = ("image_size", "layout", "labels", "activation", "multi_label", "output")
        for name in (*names, "resize", "crop_fraction", "interpolation"):
            if getattr(self, name) not in (None, False):
                option = name.replace("_", "-")
                raise UsageError(f"`--{option}` describes a model from elsewhere: add `--preprocess`.")

    def _with_limits(self, model: Path) -> "Manifest | None":
        from kerasxfer_serving.model.manifest import Manifest

        self._refuse_descriptions()
        given: dict[str, Any] = {"draft": True} if self.draft else {}
        if self.max_pixels is not None:
            given["max_pixels"] = self.max_pixels
        if self.decode is not choices.Decode.pillow:
            given["decoder"] = self.decode.value
        if not given:
            return None
        manifest = Manifest.read(model)
        try:
            policy = replace(manifest.policy, **given)
        except ValueError as error:
            raise UsageError(str(error)) from error
        return replace(manifest, policy=policy)

    def _normalisation(self) -> "str | Normalisation":
        from kerasxfer_serving.model.normalisation import NORMALISATIONS, Normalisation, find_preset

        name = find_preset(self.preprocess.value).normalisation if self.preprocess else None
        if name is not None and self.mean is None and self.std is None and self.scale is None:
            return name
        base = NORMALISATIONS[name] if name else Normalisation()
        return Normalisation(
            mean=base.mean if self.mean is None else read_figures("--mean", self.mean),
            std=base.std if self.std is None else read_figures("--std", self.std),
            scale=base.scale if self.scale is None else read_figures("--scale", self.scale)[0],
            bgr=base.bgr,
        )

    def _policy(self) -> "ImagePolicy":
        from kerasxfer_serving.images import ImagePolicy
        from kerasxfer_serving.model.normalisation import find_preset

        policy = find_preset(self.preprocess.value).policy if self.preprocess else ImagePolicy()
        resize = self.resize.value if self.resize else "crop" if self.crop_fraction is not None else policy.resize
        fraction = self.crop_fraction if self.crop_fraction is not None else policy.crop_fraction
        try:
            return ImagePolicy(
                interpolation=self.interpolation.value if self.interpolation else policy.interpolation,
                resize=resize,
                draft=self.draft,
                decoder=self.decode.value,
                max_pixels=self.max_pixels,
                crop_fraction=fraction if resize == "crop" or self.crop_fraction is not None else None,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error


def _with_thresholds(manifest: "Manifest", threshold: str) -> "Manifest":
    from kerasxfer_serving.model.task import name_thresholds

    if not manifest.is_multi_label:
        raise UsageError(
            "`--threshold` is for multi-label models. The classes of this one exclude each other, and its answer is "
            "the most probable. If a model from elsewhere is multi-label, add `--multi-label`."
        )
    given = read_thresholds(threshold)
    return replace(manifest, thresholds=name_thresholds(given, manifest.thresholds, manifest.class_names))


def read_figures(option: str, text: str) -> tuple[float, ...]:
    """Read `0.485,0.456,0.406`, or `1/255`.

    Args:
        option: The option, for the message.
        text: Its value.

    Raises:
        UsageError: The value is not one number or three.
    """
    try:
        figures = tuple(float(Fraction(part.strip())) for part in text.split(","))
    except (ValueError, ZeroDivisionError, OverflowError):
        figures = ()
    if len(figures) not in (1, 3):
        raise UsageError(f"`{option}` takes one number or three, such as 0.485,0.456,0.406. Received: {text!r}")
    return figures


def _summary(manifest: "Manifest") -> str:
    """How a model from elsewhere will be used, to check before trusting its answers."""
    policy = ", ".join(f"{name} {value}" for name, value in manifest.policy.to_dict().items() if value is not False)
    height, width = manifest.image_size
    return (
        f"Model from elsewhere: images {height} × {width} {manifest.layout} ({policy}), normalisation "
        f"{manifest.normalisation}; {len(manifest.class_names)} classes from `{manifest.output_name}`, which holds "
        f"{manifest.output}{', several labels per image' if manifest.is_multi_label else ''}."
    )
