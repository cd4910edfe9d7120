"""Rewrites of a converted graph that keep its answers: operators that ONNX has, and no work that can be spared."""

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

_ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Sub"})


def spell_out_erfc(graph: onnx.GraphProto) -> None:
    """Replace every `Erfc`, which TensorFlow's exact GELU uses and ONNX does not have, by `1 - Erf`, in place."""
    found = [node for node in graph.node if node.op_type == "Erfc"]
    if not found:
        return
    one = "erfc/one"
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, "float32"), one))
    for node in found:
        output, inner = node.output[0], f"{node.output[0]}/erf"
        node.op_type, node.output[0] = "Erf", inner
        place = list(graph.node).index(node)
        graph.node.insert(place + 1, onnx.helper.make_node("Sub", [one, inner], [output], f"{node.name}/Sub"))


def fix_shapes(graph: onnx.GraphProto) -> None:
    """Give every `Reshape` whose shape has a single open dimension a constant one; what computed it is then unused.

    The converter computes the shape anew in every run, with casts there and back: Keras's `Flatten` becomes
    `Shape → Gather → Cast → Slice → Concat → Cast → Reshape`, the concatenation being (batch, known sizes). With one
    size unknown it is -1 whatever its value, so nothing has to be assumed.

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


class _Step(NamedTuple):
    """A product or sum with a constant for each channel, right after a convolution."""

    node: onnx.NodeProto
    values: NDArray[np.float64]


def fold_channel_scales(graph: onnx.GraphProto) -> None:
    """Let each convolution do the products and sums with constants for each channel that alone follow it.

    The converter folds batch normalisation into convolutions, but not into depthwise ones. A runtime folds those as it
    opens the file; the quantiser does not, and would round three times what is one result.

    Args:
        graph: Changed in place; its unused constants stay.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    for output in graph.output:
        readers[output.name].append(onnx.NodeProto())
    for convolution in [node for node in graph.node if node.op_type == "Conv"]:
        if any(name not in constants for name in convolution.input[1:]):
            continue
        kernel, *biases = (_array(constants[name]) for name in convolution.input[1:])
        bias = biases[0] if biases else np.zeros(len(kernel))
        while step := _following(convolution.output[0], readers, constants, kernel.shape):
            if step.node.op_type == "Mul":
                kernel, bias = kernel * step.values.reshape(-1, *[1] * (kernel.ndim - 1)), bias * step.values
            else:
                bias = bias + step.values
            convolution.output[0] = step.node.output[0]
            graph.node.remove(step.node)
            _give(graph, convolution, kernel, bias)


def _following(
    name: str,
    readers: defaultdict[str, list[onnx.NodeProto]],
    constants: dict[str, onnx.TensorProto],
    kernel: tuple[int, ...],
) -> _Step | None:
    """The only reader of a convolution's result, if it is such a product or sum."""
    if len(readers[name]) != 1 or (node := readers[name][0]).op_type not in ("Mul", "Add"):
        return None
    other = next((each for each in node.input if each != name), name)
    if other not in constants:
        return None
    values = _array(constants[other])
    shape = (1,) * (len(kernel) - values.ndim) + values.shape
    channels = kernel[0]
    if values.size != 1 and shape != (1, channels, *[1] * (len(kernel) - 2)):
        return None
    return _Step(node, np.broadcast_to(values.ravel(), channels))


def _give(graph: onnx.GraphProto, convolution: Any, kernel: NDArray[Any], bias: NDArray[Any]) -> None:
    names = [f"{convolution.output[0]}/kernel", f"{convolution.output[0]}/bias"]
    for name, value in zip(names, (kernel, bias), strict=True):
        graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    convolution.input[1:] = names


def _array(tensor: onnx.TensorProto) -> NDArray[np.float64]:
    return np.asarray(onnx.numpy_helper.to_array(tensor), np.float64)


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
