"""RGB to BGR for free: the first convolution takes its input channels in the order in which the pixels come."""

from typing import Any

import numpy as np
import onnx

_ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Sub"})


def fold_channel_order(graph: onnx.GraphProto) -> None:
    """Drop a reordering of the input's channels by reordering the constants and the kernel that follow it.

    The preprocessing of VGG and ResNet becomes `Gather(channels) → Sub(mean) → Transpose → Conv`. Channel by channel it
    is the same arithmetic without the `Gather`, which would touch every pixel. Any other pattern is left as it is.

    Args:
        graph: Changed in place.
    """
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for gather in [node for node in graph.node if node.op_type == "Gather"]:
        order = constants.get(gather.input[1])
        chain = _chain(graph, gather, constants)
        if chain is None or order is None or sorted(order.ravel()) != list(range(order.size)):
            continue
        *elementwise, _, convolution = chain
        if constants[convolution.input[1]].shape[1] != order.size:
            continue
        for node in elementwise:
            _reorder(graph, node, constants, order, axis=-1)
        _reorder(graph, convolution, constants, order, axis=1)
        chain[0].input[list(chain[0].input).index(gather.output[0])] = gather.input[0]
        graph.node.remove(gather)


def _chain(graph: onnx.GraphProto, gather: Any, constants: dict[str, Any]) -> list[Any] | None:
    """The nodes after a reordering of the last axis, to the convolution; `None` where there is anything else."""
    if _attribute(gather, "axis") not in (-1, 3):
        return None
    chain = [gather]
    while chain[-1].op_type != "Conv":
        readers = [node for node in graph.node if chain[-1].output[0] in node.input]
        if len(readers) != 1 or chain[-1].output[0] in {output.name for output in graph.output}:
            return None
        (node,) = readers
        if chain[-1].op_type == "Transpose":
            fits = node.op_type == "Conv" and node.input[1] in constants and _attribute(node, "group") in (None, 1)
        elif node.op_type == "Transpose":
            fits = _attribute(node, "perm") == [0, 3, 1, 2]
        else:
            fits = node.op_type in _ELEMENTWISE and any(name in constants for name in node.input)
        if not fits:
            return None
        chain.append(node)
    return chain[1:]


def _reorder(graph: onnx.GraphProto, node: Any, constants: dict[str, Any], order: Any, *, axis: int) -> None:
    """Give a node its constant with the channels put back to the places that they come from."""
    place, name = next((place, name) for place, name in enumerate(node.input) if name in constants)
    value = constants[name]
    if value.ndim == 0 or value.shape[axis] == 1:
        return
    reordered = np.empty_like(value)
    reordered[(slice(None),) * (axis % value.ndim) + (order.ravel(),)] = value
    node.input[place] = f"{name}/reordered"
    graph.initializer.append(onnx.numpy_helper.from_array(reordered, node.input[place]))


def _attribute(node: Any, name: str) -> Any:
    return next((onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), None)
