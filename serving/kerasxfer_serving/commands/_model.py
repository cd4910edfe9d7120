"""The options that describe a model from elsewhere, for every command that runs one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from kerasxfer_serving.commands import choices
from kerasxfer_serving.commands.options import read_size

if TYPE_CHECKING:
    from kerasxfer_serving.model.manifest import Manifest

_PANEL = "A model from elsewhere"

PreprocessOption: TypeAlias = Annotated[
    choices.Normalisation | None,
    typer.Option(help="What the model expects to have been done to pixels.", rich_help_panel=_PANEL),
]
ImageSizeOption: TypeAlias = Annotated[
    str | None, typer.Option(help="HxW. Default: the graph's.", rich_help_panel=_PANEL, show_default=False)
]
LayoutOption: TypeAlias = Annotated[
    choices.Layout | None,
    typer.Option(help="Order of the axes. Default: the graph's.", rich_help_panel=_PANEL, show_default=False),
]
LabelsOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="File of class names, one a line or JSON.", rich_help_panel=_PANEL)
]
ActivationOption: TypeAlias = Annotated[
    choices.Activation | None, typer.Option(help="What the output holds.", rich_help_panel=_PANEL)
]
ResizeOption: TypeAlias = Annotated[
    choices.Resize | None,
    typer.Option(
        help="How images come to the model's shape. Default: stretch.", rich_help_panel=_PANEL, show_default=False
    ),
]
DraftOption: TypeAlias = Annotated[
    bool, typer.Option("--draft", help="Decode large JPEGs faster, with slightly different pixels.")
]


@dataclass(frozen=True)
class ModelOptions:
    """What the command line says about the model.

    Args:
        sha256: Hash that the file must have.
        draft: Whether large JPEGs are decoded faster.
        preprocess: What a model from elsewhere expects to have been done to pixels; as for the rest, see the options.
    """

    sha256: str | None = None
    draft: bool = False
    preprocess: choices.Normalisation | None = None
    image_size: str | None = None
    layout: choices.Layout | None = None
    labels: Path | None = None
    activation: choices.Activation | None = None
    resize: choices.Resize | None = None

    def manifest(self, model: Path) -> "Manifest | None":
        """The manifest that the options make or change; `None` for the model's own.

        Raises:
            UsageError: Options describe a model that describes itself.
        """
        from kerasxfer_serving.errors import UsageError
        from kerasxfer_serving.images import ImagePolicy
        from kerasxfer_serving.model import foreign
        from kerasxfer_serving.model.model_file import load_model_file

        if self.preprocess is None:
            for name in ("image_size", "layout", "labels", "activation", "resize"):
                if getattr(self, name) is not None:
                    option = name.replace("_", "-")
                    raise UsageError(f"`--{option}` describes a model from elsewhere: add `--preprocess`.")
            return _with_draft(model) if self.draft else None
        return foreign.describe(
            load_model_file(model, sha256=self.sha256),
            normalisation=self.preprocess.value,
            image_size=read_size("--image-size", self.image_size) if self.image_size else None,
            layout=self.layout.value if self.layout else None,
            class_names=foreign.read_labels(self.labels) if self.labels else None,
            output=self.activation.value if self.activation else None,
            policy=ImagePolicy(resize=self.resize.value if self.resize else "stretch", draft=self.draft),
        )


def _with_draft(model: Path) -> "Manifest":
    from dataclasses import replace

    from kerasxfer_serving.model.manifest import Manifest

    manifest = Manifest.read(model)
    return replace(manifest, policy=replace(manifest.policy, draft=True))
