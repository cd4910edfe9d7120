"""The converted graph made presentable: stable order and names, one open dimension, the manifest inside, checked."""

import re
from collections import Counter
from typing import Any

import onnx
from kerasxfer_serving import __version__
from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest

from kerasxfer.export.errors import ExportError
from kerasxfer.export.rewrites import drop_unused, fix_shapes, fold_channel_order, fold_channel_scales, spell_out_erfc

INPUT = "images"
OUTPUT = "probabilities"
FEATURES = "features"

_POOLINGS = frozenset(
    {"GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "Flatten", "Reshape", "Squeeze"}
)


def tidy(proto: onnx.ModelProto, *, features: bool = False) -> onnx.ModelProto:
    """Give inputs, outputs and dimensions their names, and drop what changes from conversion to conversion.

    Args:
        proto: A graph with one input and one output, changed in place.
        features: Whether to add the pooled features as a second output. Defaults to `False`.

    Returns:
        `proto`.

    Raises:
        ExportError: There are no pooled features, or more than one input or output.
    """
    graph = proto.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise ExportError(
            f"The conversion gave {len(graph.input)} inputs and {len(graph.output)} outputs; a classifier has one each."
        )
    spell_out_erfc(graph)
    fix_shapes(graph)
    fold_channel_order(graph)
    fold_channel_scales(graph)
    drop_unused(graph)
    _rename(graph, graph.input[0].name, INPUT)
    _rename(graph, graph.output[0].name, OUTPUT)
    if features:
        _add_features(proto)
    canonicalise(graph)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
        value.doc_string = ""
    del graph.value_info[:]
    graph.name, graph.doc_string, proto.doc_string = "classifier", "", ""
    proto.producer_name, proto.producer_version = "kerasxfer", __version__
    used = {node.domain for node in graph.node}
    opsets = [entry for entry in proto.opset_import if entry.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(opsets)
    return proto


def with_manifest(proto: onnx.ModelProto, manifest: Manifest) -> bytes:
    """The bytes of the file: graph and manifest, after ONNX's own full check.

    Raises:
        ExportError: The graph is not valid ONNX.
    """
    del proto.metadata_props[:]
    proto.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The converted graph is not valid ONNX: {error}") from error
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for names in (names for node in graph.node for names in (node.input, node.output)):
        for position, name in enumerate(names):
            if name == old:
                names[position] = new
    for value in (*graph.input, *graph.output):
        if value.name == old:
            value.name = new


def _add_features(proto: onnx.ModelProto) -> None:
    """The last tensor of two dimensions that a pooling or flattening made."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    shapes: dict[str, Any] = {value.name: value.type.tensor_type for value in inferred.value_info}
    for node in reversed(proto.graph.node):
        name = node.output[0]
        if node.op_type in _POOLINGS and name in shapes and len(shapes[name].shape.dim) == 2:
            width = shapes[name].shape.dim[1].dim_value
            _rename(proto.graph, name, FEATURES)
            proto.graph.output.append(
                onnx.helper.make_tensor_value_info(FEATURES, shapes[name].elem_type, ["batch", width or None])
            )
            return
    raise ExportError("`features=True` needs a model that pools or flattens before its head; this one does not.")


def canonicalise(graph: onnx.GraphProto) -> None:
    """Sort the nodes and constants of a graph and name them by their places: one graph, one file.

    The converter merges equal constants in the order of a set, so that another one of them survives in every process,
    and numbers what it makes as it goes.

    A node keeps the name of its layer, without the converter's number. A constant is named after the first node that
    reads it and the place of that input, a node's output after the node.

    Args:
        graph: Changed in place; names of its inputs and outputs stay.
    """
    nodes = _sorted_nodes(graph)
    _name_nodes(nodes)
    names = _tensor_names(graph, nodes)
    for node in nodes:
        for places in (node.input, node.output):
            for place, name in enumerate(places):
                places[place] = names.get(name, name)
    constants = {names.get(tensor.name, tensor.name): tensor for tensor in graph.initializer}
    ordered = []
    for name in dict.fromkeys(name for node in nodes for name in node.input if name in constants):
        tensor = onnx.TensorProto()
        tensor.CopyFrom(constants[name])
        tensor.name = name
        ordered.append(tensor)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(ordered)


def _sorted_nodes(graph: onnx.GraphProto) -> list[Any]:
    """Copies of the nodes, each after what it reads: depth first from the outputs, inputs from first to last."""
    makers = {name: node for node in graph.node for name in node.output}
    ordered: list[Any] = []
    done: set[int] = set()
    waiting = [makers[output.name] for output in reversed(graph.output) if output.name in makers]
    while waiting:
        node = waiting[-1]
        missing = [makers[name] for name in node.input if name in makers and id(makers[name]) not in done]
        if missing:
            waiting.extend(reversed(missing))
            continue
        waiting.pop()
        if id(node) not in done:
            done.add(id(node))
            ordered.append(_copy(node))
    return ordered


def _copy(node: Any) -> Any:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _name_nodes(nodes: list[Any]) -> None:
    taken: Counter[str] = Counter()
    for node in nodes:
        name = re.sub(r"__\d+", "", node.name) or node.op_type
        node.name = f"{name}_{taken[name]}" if taken[name] else name
        taken[name] += 1


def _tensor_names(graph: onnx.GraphProto, nodes: list[Any]) -> dict[str, str]:
    """New names of constants and of what lies between nodes, by their old ones."""
    constants = {tensor.name for tensor in graph.initializer}
    kept = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    for node in nodes:
        for place, name in enumerate(node.input):
            if name in constants:
                names.setdefault(name, f"{node.name}/input_{place}")
        for place, name in enumerate(node.output):
            if name and name not in kept:
                names[name] = f"{node.name}:{place}"
    return names
