"""Flattening in one operator: the converter computes the shape anew in every run, with casts there and back."""

from typing import Any

import numpy as np
import onnx


def fix_shapes(graph: onnx.GraphProto) -> None:
    """Give every `Reshape` whose shape has a single open dimension a constant one; what computed it is then unused.

    Keras's `Flatten` becomes `Shape → Gather → Cast → Slice → Concat → Cast → Reshape`, the concatenation being
    (batch, known sizes). With one size unknown it is -1 whatever its value, so nothing has to be assumed.

    Args:
        graph: Changed in place.
    """
    producers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or (sizes := _sizes(node.input[1], producers, constants)) is None:
            continue
        name = f"{node.output[0]}/shape"
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(sizes, np.int64), name))
        graph.node[number].input[1] = name


def _sizes(shape: str, producers: dict[str, Any], constants: dict[str, Any]) -> list[int] | None:
    """The sizes that a computed shape concatenates, -1 for the open one; `None` where that is not what it is."""
    node = producers.get(shape)
    while node is not None and node.op_type == "Cast":
        node = producers.get(node.input[0])
    if node is None or node.op_type != "Concat":
        return None
    first, *rest = node.input
    known = [constants.get(name) for name in rest]
    if not _is_one_size(first, producers, constants) or any(part is None for part in known):
        return None
    sizes = [int(size) for part in known if part is not None for size in part]
    return [-1, *sizes] if all(size > 0 for size in sizes) else None


def _is_one_size(name: str, producers: dict[str, Any], constants: dict[str, Any]) -> bool:
    """Whether a tensor is a single element cut from a shape."""
    node = producers.get(name)
    while node is not None and node.op_type == "Cast":
        node = producers.get(node.input[0])
    if node is None or node.op_type != "Slice":
        return False
    start, end = (constants.get(bound) for bound in node.input[1:3])
    return start is not None and end is not None and (end - start).tolist() == [1]


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the nodes and constants that no output needs, in place."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(initializers)
