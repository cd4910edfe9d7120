"""What is chosen from: a backbone with its weights, at one image size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import keras
from kerasxfer_serving.errors import UsageError

from kerasxfer.layers.preprocess import application_name
from kerasxfer.models import image_classifier

T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """A pretrained backbone at an image size, in the terms of `kerasxfer train`.

    Args:
        backbone: Name of a `keras.applications` model, `"DemoVGG"`, or `"hub:"` and a preset of KerasHub.
        image_size: `(height, width)` in pixels. Defaults to `(150, 150)`.
        weights: `"imagenet"`, or the path of a weights file of the whole backbone without its top. Defaults to
            `"imagenet"`.
        backbone_output: Name of the layer whose output are the features. Defaults to `None`, the backbone's output.
        backbone_args: Further arguments of the application, as `{"alpha": 0.75}`. Defaults to none.

    Raises:
        UsageError: There is no such backbone.

    Example:

    >>> from kerasxfer.choosing.candidates import Candidate
    >>> Candidate("mobilenet", (224, 224), backbone_args={"alpha": 0.75}).name
    'MobileNet@224'
    """

    backbone: str
    image_size: tuple[int, int] = (150, 150)
    weights: str = "imagenet"
    backbone_output: str | None = None
    backbone_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.backbone.startswith("hub:"):
            object.__setattr__(self, "backbone", application_name(self.backbone))

    @property
    def name(self) -> str:
        """The backbone and the size, as `"VGG16@150"`."""
        return f"{self.backbone}@{self.size}"

    @property
    def size(self) -> str:
        """The image size as options take it."""
        height, width = self.image_size
        return f"{height}" if height == width else f"{height}x{width}"

    def classifier(self, class_names: Sequence[str], *, multi_label: bool = False) -> keras.Model:
        """The frozen backbone with an average-pooling head on top.

        Args:
            class_names: The classes.
            multi_label: Whether any number of them may fit an image. Defaults to `False`.

        Raises:
            WeightsError: The weights are not available, or do not fit.
            UsageError: The backbone does not take its arguments, or the size.
        """
        return image_classifier(
            self.backbone,
            class_names,
            self.image_size,
            weights=self.weights,
            backbone_output=self.backbone_output,
            backbone_kwargs=self.backbone_args,
            multi_label=multi_label,
        )

    def options(self) -> list[str]:
        """The options of `kerasxfer train` that build the same model."""
        options = ["--backbone", self.backbone, "--image-size", self.size]
        if self.backbone_output:
            options += ["--backbone-output", self.backbone_output]
        if self.backbone_args:
            options += ["--backbone-args", ",".join(f"{name}={value}" for name, value in self.backbone_args.items())]
        if self.weights != "imagenet":
            options += ["--weights", self.weights]
        return options


def make_candidates(
    names: Sequence[str],
    image_sizes: Sequence[tuple[int, int]],
    *,
    weights: Mapping[str, str] | None = None,
    backbone_outputs: Mapping[str, str] | None = None,
    backbone_args: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Candidate]:
    """Every backbone at every image size.

    Args:
        names: Names of the backbones.
        image_sizes: `(height, width)` of each size.
        weights: Weights file by backbone. Defaults to `None`, ImageNet's for all.
        backbone_outputs: Name of the layer that gives the features, by backbone. Defaults to `None`.
        backbone_args: Further arguments, by backbone. Defaults to `None`.

    Raises:
        UsageError: A name is none, comes twice, or is given something and no candidate.
    """
    exact = [Candidate(name).backbone for name in names]
    if len(set(exact)) < len(exact) or not exact:
        raise UsageError(f"`candidates` must be different names of backbones, at least one. Received: {list(names)}")
    files, outputs, arguments = _exact(weights), _exact(backbone_outputs), _exact(backbone_args)
    if strangers := sorted({*files, *outputs, *arguments} - set(exact)):
        raise UsageError(
            f"Weights, outputs and arguments are given by the name of a candidate. Received: {', '.join(strangers)}; "
            f"the candidates are {', '.join(exact)}"
        )
    return [
        Candidate(name, size, files.get(name, "imagenet"), outputs.get(name), arguments.get(name, {}))
        for name in exact
        for size in image_sizes
    ]


def _exact(given: Mapping[str, T] | None) -> dict[str, T]:
    return {Candidate(name).backbone: value for name, value in (given or {}).items()}
