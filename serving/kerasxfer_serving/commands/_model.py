"""The options that describe a model from elsewhere, for every command that runs one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from kerasxfer_serving.commands import _choices as choices

if TYPE_CHECKING:
    from kerasxfer_serving.model.manifest import Manifest

Preprocess: TypeAlias = Annotated[
    choices.Normalisation | None, typer.Option(help="For a model from elsewhere: what it wants done to pixels.")
]
ImageSize: TypeAlias = Annotated[str | None, typer.Option(help="Likewise: HxW. Default: the graph's.")]
Layout: TypeAlias = Annotated[choices.Layout | None, typer.Option(help="Likewise. Default: the graph's.")]
Labels: TypeAlias = Annotated[Path | None, typer.Option(help="Likewise: class names, one a line or JSON.")]
Activation: TypeAlias = Annotated[choices.Activation | None, typer.Option(help="Likewise: of the output.")]
Resize: TypeAlias = Annotated[choices.Resize | None, typer.Option(help="Likewise. Default: stretch.")]
Draft: TypeAlias = Annotated[bool, typer.Option("--draft", help="Decode large JPEGs faster, slightly differently.")]


def described_manifest(
    model: Path,
    *,
    preprocess: choices.Normalisation | None,
    image_size: str | None,
    layout: choices.Layout | None,
    labels: Path | None,
    activation: choices.Activation | None,
    resize: choices.Resize | None,
    draft: bool,
    sha256: str | None = None,
) -> "Manifest | None":
    """The manifest that the options make or change; `None` for the model's own.

    Raises:
        UsageError: options describe a model that describes itself.
    """
    from kerasxfer_serving.errors import UsageError
    from kerasxfer_serving.images import ImagePolicy
    from kerasxfer_serving.model import foreign
    from kerasxfer_serving.model.model_file import load_model_file

    if preprocess is None:
        given = {"image-size": image_size, "layout": layout, "labels": labels, "activation": activation}
        for name, value in (given | {"resize": resize}).items():
            if value is not None:
                raise UsageError(f"`--{name}` describes a model from elsewhere: add `--preprocess`.")
        return _with_draft(model) if draft else None
    return foreign.describe(
        load_model_file(model, sha256=sha256),
        normalisation=preprocess.value,
        image_size=_size(image_size) if image_size else None,
        layout=layout.value if layout else None,
        class_names=foreign.read_labels(labels) if labels else None,
        output=activation.value if activation else None,
        policy=ImagePolicy(resize=resize.value if resize else "stretch", draft=draft),
    )


def _with_draft(model: Path) -> "Manifest":
    from dataclasses import replace

    from kerasxfer_serving.model.manifest import Manifest

    manifest = Manifest.read(model)
    return replace(manifest, policy=replace(manifest.policy, draft=True))


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and (width or height).isdecimal()):
        raise typer.BadParameter(f"`--image-size` is HxW, as 224x224, or one number. Received: {text!r}")
    return int(height), int(width or height)
