"""Models from elsewhere: a manifest from what is said of them and what their graph tells."""

from typing import Any

from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.activation import find_activation
from kerasxfer_serving.model.adapting import adapt, is_single
from kerasxfer_serving.model.class_names import ClassNames, normalise_class_names, read_labels, unique_names
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.model.model_file import ModelFile, TensorInfo
from kerasxfer_serving.model.normalisation import Normalisation, find_preset
from kerasxfer_serving.model.task import MULTI_LABEL, SINGLE_LABEL

__all__ = ["adapt", "describe", "read_labels", "unique_names"]


def describe(
    file: ModelFile,
    *,
    normalisation: str | Normalisation = "none",
    image_size: tuple[int, int] | None = None,
    layout: str | None = None,
    class_names: ClassNames | None = None,
    output: str | None = None,
    output_name: str | None = None,
    policy: ImagePolicy | None = None,
    multi_label: bool = False,
) -> Manifest:
    """A manifest for a model from elsewhere.

    Args:
        file: The model.
        normalisation: A `Normalisation`, or a name: `"imagenet"` (also called `"torch"`), `"tf"`, `"caffe"`,
            `"rescale"`, `"clip"` or `"none"`; or a preset, `"torchvision"` or `"timm"`, which says `policy` too.
            Defaults to `"none"`.
        image_size: `(height, width)`. Defaults to that of the graph's input.
        layout: `"nhwc"` or `"nchw"`. Defaults to where the graph's input has its three channels, or its single one.
        class_names: Names of the classes, as `normalise_class_names` takes them. Defaults to `"class_0"`,
            `"class_1"`, …
        output: `"softmax"`, `"sigmoid"` or `"logits"`. Defaults to what the operator that decides the output says.
        output_name: Name of the graph's output with the figures of the classes. Defaults to the only one.
        policy: How images are decoded and resized. Defaults to `ImagePolicy()`.
        multi_label: Whether any number of classes may fit an image, each from a probability of 0.5. Defaults to
            `False`.

    Raises:
        ModelError: Something is neither said nor in the graph, or what is said is not so.
    """
    if isinstance(normalisation, str):
        preset = find_preset(normalisation)
        normalisation, policy = preset.normalisation, policy or preset.policy
    layout = _layout(file, layout)
    figures = _figures(file, output_name)
    return Manifest(
        class_names=_class_names(class_names, figures),
        image_size=image_size or _image_size(file, layout),
        policy=policy or ImagePolicy(),
        output=output or _activation(file, figures),
        task=MULTI_LABEL if multi_label else SINGLE_LABEL,
        layout=layout,
        normalisation=normalisation,
        input_name=file.inputs[0].name,
        output_name=figures.name,
    )


def _layout(file: ModelFile, said: str | None) -> str:
    shape = file.inputs[0].shape if len(file.inputs) == 1 else ()
    if len(shape) != 4:
        raise ModelError(f"An image classifier has one input with four dimensions. Received: {file.inputs}")
    if said is not None:
        return said
    for channels in (3, 1):
        found = [name for axis, name in ((1, "nchw"), (3, "nhwc")) if shape[axis] == channels]
        if found:
            return found[0]
    raise ModelError(f"Give `--layout nchw` or `--layout nhwc`: the input's shape does not tell. Received: {shape}")


def _image_size(file: ModelFile, layout: str) -> tuple[int, int]:
    shape = file.inputs[0].shape
    match shape[2:] if layout == "nchw" else shape[1:3]:
        case (int(height), int(width)):
            return height, width
    raise ModelError(f"Give `--image-size HxW`: the input's shape leaves it open. Received: {shape}")


def _figures(file: ModelFile, name: str | None) -> TensorInfo:
    """The output that holds the figures of the classes."""
    outputs = {output.name: output for output in file.outputs}
    if name is None and len(outputs) == 1:
        return file.outputs[0]
    if name not in outputs:
        shapes = ", ".join(f"`{output.name}` {list(output.shape)}" for output in file.outputs)
        wrong = "" if name is None else f" Received: --output {name}."
        raise ModelError(f"Say with `--output NAME` which output holds the figures of the classes: {shapes}.{wrong}")
    return outputs[name]


def _class_names(names: Any, figures: TensorInfo) -> tuple[str, ...]:
    columns = next((side for side in figures.shape[1:] if isinstance(side, int) and side > 1), None)
    classes = 2 if is_single(figures) else columns
    if names is None:
        if classes is None:
            raise ModelError(
                f"Give `--labels FILE`: the output's shape does not tell the classes. Received: {figures.shape}"
            )
        names = [f"class_{index}" for index in range(classes)]
    names = normalise_class_names(names)
    if classes is not None and len(names) != classes:
        raise ModelError(
            f"There must be a name for each of the {classes} classes of the output `{figures.name}`. "
            f"Received: {len(names)} names, {list(names)!r:.200}"
        )
    return unique_names(names)


def _activation(file: ModelFile, figures: TensorInfo) -> str:
    found = find_activation(file.proto, figures.name)
    if found.output is None:
        raise ModelError(
            f"What the output `{figures.name}` holds cannot be told from the graph (its values come from "
            f"{found.operator}): give `--activation softmax`, `sigmoid` or `logits`."
        )
    return found.output
