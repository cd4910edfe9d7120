"""Models from elsewhere: what they want done to pixels is put in front of them as graph nodes.

So every model takes raw pixels, uint8 and channels last: one way through session and pipeline, and a quarter of the
bytes to upload.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.model.model_file import ModelFile

PIXELS = "kerasxfer_pixels"


class Normalisation(NamedTuple):
    """`(pixel - mean) / scale` for each channel, of pixels in 0–255."""

    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    bgr: bool = False


# The first three are `keras.applications.imagenet_utils.preprocess_input`'s modes, "imagenet" is its "torch".
NORMALISATIONS = {
    "rescale": Normalisation((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "tf": Normalisation((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "caffe": Normalisation((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), bgr=True),
    "imagenet": Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
_DENSE = {"Gemm", "MatMul", "Conv", "FusedGemm", "FusedMatMul"}


class Adapted(NamedTuple):
    """A model as the predictor runs it: bytes, manifest, and the outputs to fetch, probabilities first."""

    data: bytes
    manifest: Manifest
    outputs: tuple[str, ...]


def adapt(file: ModelFile, manifest: Manifest | None = None, *, features: bool = False) -> Adapted:
    """Make a model take raw pixels `[n, h, w, 3]` and give probabilities, and features where asked for.

    Args:
        file: the model.
        manifest: in place of the model's own. Defaults to `None`.
        features: whether to give the features too. Defaults to `False`.

    Raises:
        ModelError: the model says too little about itself, or has no such output.
    """
    manifest = manifest or file.manifest
    if manifest is None:
        raise ModelError(
            f"`{file.path}` was not written by kerasxfer, so what it expects must be said: with `--preprocess`, and "
            "`--image-size`, `--layout` and `--labels` where the file does not tell, or with a manifest in "
            f"`{file.path}.json`."
        )
    output = _output_name(file, manifest)
    normalised = manifest.layout != "nhwc" or manifest.normalisation != "none"
    logits = manifest.output == "logits"
    hidden = features and manifest.features_name is None
    outputs = [output] + ([manifest.features_name or ""] if features else [])
    if not (normalised or logits or hidden):
        return Adapted(file.data, manifest, tuple(outputs))
    proto = type(file.proto)()
    proto.CopyFrom(file.proto)
    if normalised:
        _prepend(proto.graph, manifest)
    if hidden:
        outputs[1] = _expose_features(proto.graph, output)
    if logits:
        outputs[0] = _append_softmax(proto.graph, output)
    return Adapted(proto.SerializeToString(), manifest, tuple(outputs))


def describe(
    file: ModelFile,
    *,
    normalisation: str,
    image_size: tuple[int, int] | None = None,
    layout: str | None = None,
    class_names: Sequence[str] | None = None,
    output: str | None = None,
    policy: ImagePolicy | None = None,
) -> Manifest:
    """A manifest for a model from elsewhere, from what is said and what its graph tells.

    Args:
        file: the model.
        normalisation: `"imagenet"`, `"tf"`, `"caffe"`, `"rescale"` or `"none"`.
        image_size: `(height, width)`. Defaults to that of the graph's input.
        layout: `"nhwc"` or `"nchw"`. Defaults to where the graph's input has its three channels.
        class_names: names of the classes. Defaults to `"class_0"`, `"class_1"`, …
        output: `"softmax"`, `"sigmoid"` or `"logits"`. Defaults to what the graph's last operator says.
        policy: how pictures are decoded and resized. Defaults to `ImagePolicy()`.

    Raises:
        ModelError: something is neither said nor in the graph.
    """
    shape = file.inputs[0].shape
    if len(file.inputs) != 1 or len(shape) != 4:
        raise ModelError(f"An image classifier has one input with four dimensions. Received: {file.inputs}")
    layout = layout or {1: "nchw", 3: "nhwc"}.get(next((axis for axis in (1, 3) if shape[axis] == 3), 0))
    if layout is None:
        raise ModelError(f"Give `--layout nchw` or `--layout nhwc`: the input's shape does not tell. Received: {shape}")
    size = image_size or (shape[2:] if layout == "nchw" else shape[1:3])
    if not isinstance(size[0], int) or not isinstance(size[1], int):
        raise ModelError(f"Give `--image-size HxW`: the input's shape leaves it open. Received: {shape}")
    probabilities = file.outputs[0]
    return Manifest(
        class_names=unique_names(class_names or _numbered(probabilities.shape)),
        image_size=(size[0], size[1]),
        policy=policy or ImagePolicy(),
        output=output or _activation(file.proto.graph, probabilities.name),
        layout=layout,
        normalisation=normalisation,
        input_name=file.inputs[0].name,
        output_name=probabilities.name,
    )


def read_labels(path: str | Path) -> list[str]:
    """Class names from a file: one a line, or a JSON list, or a JSON object `{"0": "cat", …}`."""
    path = Path(path)
    try:
        text = path.read_text("utf-8")
        if path.suffix != ".json":
            return [line.strip() for line in text.splitlines() if line.strip()]
        data = json.loads(text)
        if isinstance(data, dict):
            data = [data[key] for key in sorted(data, key=int)]
        return [str(name) for name in data]
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"`{path}` is no list of labels (one a line, or JSON): {error}") from error


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names with their number where one occurs twice, as ImageNet's "crane" does."""
    counts = Counter(names)
    return tuple(name if counts[name] == 1 else f"{name} ({index})" for index, name in enumerate(names))


def _numbered(shape: Sequence[Any]) -> list[str]:
    classes = next((side for side in shape[1:] if isinstance(side, int) and side > 1), None)
    if classes is None:
        raise ModelError(f"Give `--labels FILE`: the output's shape does not tell the classes. Received: {shape}")
    return [f"class_{index}" for index in range(classes)]


def _output_name(file: ModelFile, manifest: Manifest) -> str:
    names = [output.name for output in file.outputs]
    if manifest.output_name in names:
        return manifest.output_name
    if len(names) == 1:
        return names[0]
    raise ModelError(
        f"`output_name` in the manifest must be one of the graph's, {names}. Received: {manifest.output_name!r}"
    )


def _activation(graph: Any, output: str) -> str:
    producer = next((node.op_type for node in graph.node if output in node.output), "")
    return {"Softmax": "softmax", "Sigmoid": "sigmoid"}.get(producer, "logits")


def _prepend(graph: Any, manifest: Manifest) -> None:
    """Put cast, channel order, mean and scale, and layout in front of the graph's input."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {tensor.name for tensor in graph.initializer}
    (entry,) = (value for value in graph.input if value.name not in constants)
    kind = entry.type.tensor_type
    batch = kind.shape.dim[0].dim_value or kind.shape.dim[0].dim_param or "batch"
    steps: list[tuple[str, list[str], dict[str, Any]]] = [("Cast", [], {"to": TensorProto.FLOAT})]
    if (normalisation := NORMALISATIONS.get(manifest.normalisation)) is not None:
        arrays = {
            "mean": np.array(normalisation.mean, np.float32),
            "factor": 1 / np.array(normalisation.scale, np.float32),
            "bgr": np.array([2, 1, 0]),
        }
        graph.initializer.extend(numpy_helper.from_array(array, f"{PIXELS}_{name}") for name, array in arrays.items())
        if normalisation.bgr:
            steps.append(("Gather", [f"{PIXELS}_bgr"], {"axis": 3}))
        steps += [("Sub", [f"{PIXELS}_mean"], {}), ("Mul", [f"{PIXELS}_factor"], {})]
    if manifest.layout == "nchw":
        steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
    steps.append(("Cast", [], {"to": kind.elem_type}))
    names = [PIXELS, *(f"{PIXELS}_{index}" for index in range(len(steps) - 1)), entry.name]
    nodes = [
        helper.make_node(operator, [source, *more], [target], f"{target}_{operator}", **attributes)
        for (operator, more, attributes), source, target in zip(steps, names, names[1:], strict=False)
    ]
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *body])
    graph.input.remove(entry)
    graph.input.append(helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, [batch, *manifest.image_size, 3]))


def _append_softmax(graph: Any, output: str) -> str:
    from onnx import ValueInfoProto, helper

    name = f"{output}_softmax"
    flat = f"{output}_flat"
    graph.node.append(helper.make_node("Flatten", [output], [flat], axis=1))
    graph.node.append(helper.make_node("Softmax", [flat], [name], axis=1))
    graph.output.append(ValueInfoProto(name=name))
    return name


def _expose_features(graph: Any, output: str) -> str:
    """Make the input of the last dense layer an output."""
    from onnx import ValueInfoProto

    producers = {name: node for node in graph.node for name in node.output}
    name: str = output
    while (node := producers.get(name)) is not None and node.input:
        name = node.input[0]
        if node.op_type in _DENSE:
            graph.output.append(ValueInfoProto(name=name))
            return name
    raise ModelError("`features` needs a model with a dense layer before its output; this one has none.")
