"""Puts in front of a model what it wants done to pixels, and behind it what makes its figures probabilities.

So every model takes raw pixels, uint8 and channels last: one way through session and pipeline, and a quarter of the
bytes to upload. Whether what it gives is what its manifest says is looked at on data, not believed.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.model.activation import find_activation
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.model.model_file import ModelFile, TensorInfo

PIXELS = "kerasxfer_pixels"
_DENSE = {"Gemm", "MatMul", "Conv", "FusedGemm", "FusedMatMul"}
_NUMBERS = {"float", "float16", "bfloat16", "double"}
_LUMA = (19595 / 65536, 38470 / 65536, 7471 / 65536)  # Pillow's "L"
_TOLERANCE = 0.02
_QUANTUM = 1 / 255  # of a probability that was quantised to eight bits


class Adapted(NamedTuple):
    """A model as the predictor runs it: bytes, manifest, and the outputs to fetch, probabilities first."""

    data: bytes
    manifest: Manifest
    outputs: tuple[str, ...]


def adapt(file: ModelFile, manifest: Manifest | None = None, *, features: bool = False) -> Adapted:
    """Make a model take raw pixels `[n, h, w, 3]` and give probabilities, and features where asked for.

    Args:
        file: The model.
        manifest: In place of the model's own. Defaults to `None`.
        features: Whether to give the features too. Defaults to `False`.

    Raises:
        ModelError: The model says too little about itself, says what is not so, or has no such output.
    """
    manifest = manifest or file.manifest
    if manifest is None:
        raise ModelError(
            f"`{file.path}` was not written by kerasxfer, so what it expects must be said: with `--preprocess`, and "
            "`--image-size`, `--layout` and `--labels` where the file does not tell, or with a manifest in "
            f"`{file.path}.json`."
        )
    if len(file.inputs) != 1:
        raise ModelError(f"An image classifier has one input. Received: `{file.path}` with {file.inputs!r:.500}")
    output = _find_output(file, manifest)
    normalised = manifest.layout != "nhwc" or manifest.normalisation != "none" or channels_of(file, manifest) == 1
    logits = manifest.output == "logits"
    if logits:
        _refuse_probabilities(file, output.name)
    hidden = features and manifest.features_name is None
    outputs = [output.name, *([_features_output(file, manifest)] if features else [])]
    if not (normalised or logits or hidden):
        return Adapted(file.data, manifest, tuple(outputs))
    proto = type(file.proto)()
    proto.CopyFrom(file.proto)
    if normalised:
        _prepend(proto.graph, manifest, channels_of(file, manifest))
    if hidden:
        outputs[1] = _expose_features(proto.graph, output.name)
    if logits:
        outputs[0] = _append_activation(proto.graph, output, multi_label=manifest.is_multi_label)
    return Adapted(proto.SerializeToString(), manifest, tuple(outputs))


def channels_of(file: ModelFile, manifest: Manifest) -> int:
    """Channels that a model's input takes: 3, or 1 of a greyscale model.

    Raises:
        ModelError: It takes another number.
    """
    shape = file.inputs[0].shape
    channels = shape[3 if manifest.layout == "nhwc" else 1] if len(shape) == 4 else None
    if isinstance(channels, int) and channels not in (1, 3):
        raise ModelError(
            f"`{file.path}` takes {channels} channels by layout {manifest.layout!r}; images have three, or one in "
            f"greyscale. Received: input shape {shape}. Another `--layout` may be meant."
        )
    return 1 if channels == 1 else 3


def _find_output(file: ModelFile, manifest: Manifest) -> TensorInfo:
    outputs = {output.name: output for output in file.outputs}
    found = outputs.get(manifest.output_name) or (file.outputs[0] if len(outputs) == 1 else None)
    if found is None:
        raise ModelError(
            f"`output_name` in the manifest must be one of the graph's, {list(outputs)}. "
            f"Received: {manifest.output_name!r}"
        )
    if found.dtype not in _NUMBERS:
        raise ModelError(
            f"The output `{found.name}` of `{file.path}` must hold floating-point numbers. Received: {found.dtype}. "
            "Export the model without the operators behind its probabilities (ArgMax, ZipMap)."
        )
    return found


def _features_output(file: ModelFile, manifest: Manifest) -> str:
    names = [output.name for output in file.outputs]
    if manifest.features_name is not None and manifest.features_name not in names:
        raise ModelError(
            f"`features_name` in the manifest must be one of the graph's outputs, {names}. "
            f"Received: {manifest.features_name!r}"
        )
    return manifest.features_name or ""


def _refuse_probabilities(file: ModelFile, output: str) -> None:
    found = find_activation(file.proto, output)
    if found.output in ("softmax", "sigmoid"):
        raise ModelError(
            f"The output `{output}` of `{file.path}` is said to be logits, but it is a {found.output} already (its "
            f"values come from {found.operator}). Say so: `--activation {found.output}`, or "
            f'`"output": "{found.output}"` in the sidecar.'
        )


def _prepend(graph: Any, manifest: Manifest, channels: int) -> None:
    """Put cast, channel order, normalisation and layout in front of the graph's input."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {tensor.name for tensor in graph.initializer}
    (entry,) = (value for value in graph.input if value.name not in constants)
    kind = entry.type.tensor_type
    batch = kind.shape.dim[0].dim_value or kind.shape.dim[0].dim_param or "batch"
    arrays, steps = _pixel_steps(manifest, channels)
    graph.initializer.extend(numpy_helper.from_array(array, f"{PIXELS}_{name}") for name, array in arrays.items())
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


_Step = tuple[str, list[str], dict[str, Any]]


def _pixel_steps(manifest: Manifest, channels: int) -> tuple[dict[str, Any], list[_Step]]:
    """Constants by name, and operators: name, further inputs, attributes."""
    from onnx import TensorProto

    normalisation = manifest.find_normalisation()
    arrays: dict[str, Any] = {}
    steps: list[_Step] = [("Cast", [], {"to": TensorProto.FLOAT})]
    if channels == 1:
        arrays |= {"luma": np.array(_LUMA, np.float32)[:, np.newaxis], "half": np.array(0.5, np.float32)}
        steps += [("MatMul", [f"{PIXELS}_luma"], {}), ("Add", [f"{PIXELS}_half"], {}), ("Floor", [], {})]
    elif normalisation.bgr:
        arrays["bgr"] = np.array([2, 1, 0])
        steps.append(("Gather", [f"{PIXELS}_bgr"], {"axis": 3}))
    if channels == 1 and max(len(normalisation.mean), len(normalisation.std)) > 1:
        raise ModelError(
            "A greyscale model takes one mean and one standard deviation: `--preprocess rescale`, `tf` or `none`, or "
            f"`--mean` and `--std` with a single number. Received: {manifest.normalisation!r}"
        )
    if any(normalisation.offset):
        arrays["mean"] = np.array(normalisation.offset, np.float32)
        steps.append(("Sub", [f"{PIXELS}_mean"], {}))
    if any(factor != 1 for factor in normalisation.factor):
        arrays["factor"] = np.array(normalisation.factor, np.float32)
        steps.append(("Mul", [f"{PIXELS}_factor"], {}))
    return arrays, steps


def _append_activation(graph: Any, output: TensorInfo, *, multi_label: bool) -> str:
    """Make logits probabilities: softmax or a sigmoid each; of a single one, what it leaves for the first class too."""
    from onnx import ValueInfoProto, helper

    name, flat = f"{output.name}_probabilities", f"{output.name}_flat"
    graph.node.append(helper.make_node("Flatten", [output.name], [flat], axis=1))
    if multi_label:
        graph.node.append(helper.make_node("Sigmoid", [flat], [name]))
    elif is_single(output):
        first, second, negative = (f"{output.name}_{part}" for part in ("first", "second", "negative"))
        graph.node.extend(
            [
                helper.make_node("Neg", [flat], [negative]),
                helper.make_node("Sigmoid", [negative], [first]),
                helper.make_node("Sigmoid", [flat], [second]),
                helper.make_node("Concat", [first, second], [name], axis=1),
            ]
        )
    else:
        graph.node.append(helper.make_node("Softmax", [flat], [name], axis=1))
    graph.output.append(ValueInfoProto(name=name))
    return name


def is_single(output: TensorInfo) -> bool:
    """Whether an output has one column: the figure of the second of two classes."""
    return len(output.shape) > 1 and all(side == 1 for side in output.shape[1:])


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


def check_probabilities(rows: NDArray[Any], manifest: Manifest) -> None:
    """Refuse a model whose output is not what its manifest says.

    Args:
        rows: `[n, columns]`, the model's answers to some images.
        manifest: What the model says of itself, or somebody of it.

    Raises:
        ModelError: They are not probabilities, or no softmax though the manifest says so; with what mends it.
    """
    rows = rows[np.isfinite(rows).all(axis=1)]  # one that is not has a status of its own
    if not rows.size:
        return
    low, high = float(np.min(rows)), float(np.max(rows))
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise _mistaken(manifest, f"are from {low:.4g} to {high:.4g}", "logits")
    if manifest.output == "softmax" and rows.shape[1] > 1:
        sums = rows.sum(axis=1, dtype=np.float64)
        worst = float(sums[np.argmax(np.abs(sums - 1))])
        if abs(worst - 1) > _TOLERANCE + rows.shape[1] * _QUANTUM / 2:
            raise _mistaken(manifest, f"are from 0 to 1, and of one image sum to {worst:.4g}", "sigmoid")


def _mistaken(manifest: Manifest, seen: str, instead: str) -> ModelError:
    if manifest.output == "logits":
        return ModelError(f"The model gives no figures that can be made probabilities: after softmax they {seen}.")
    return ModelError(
        f"The model's output `{manifest.output_name}` is said to be {manifest.output}, but its values {seen}. Say what "
        f'it is: `--activation {instead}`, or `"output": "{instead}"` in the sidecar.'
    )
