"""Changes to a graph that make it faster on a GPU and leave its answers as they are, up to rounding.

ONNX Runtime hands convolutions to cuDNN, which is at its best with channels in multiples of eight; pooling and ReLU are
kernels of their own that read and write whole layers. What is done here has cuDNN pad the channels of an image's three
to eight, and leaves pooling and ReLU fewer values.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_CHANNELS = 8


def tune_for_gpu(model: bytes) -> bytes:
    """The model with all changes of this module."""
    graph = onnx.load_model_from_string(model)
    for change in CHANGES.values():
        change(graph)
    return graph.SerializeToString()  # type: ignore[no-any-return]


def pool_before_relu(model: onnx.ModelProto) -> int:
    """Take each maximum before the ReLU in front of it, instead of after.

    Args:
        model: Changed in place.

    Returns:
        Number of places changed.
    """
    return _swap_pairs(model.graph, "Relu", "MaxPool", lambda relu, pool: len(pool.output) == 1)


def convolve_before_average(model: onnx.ModelProto) -> int:
    """Average after a convolution with 1 × 1 kernels that leaves fewer channels, instead of before.

    Both are linear and neither mixes what the other does: the average over pixels of the mix of channels is the mix of
    the averages. cuDNN's average pooling took two fifths of InceptionV3's time on an H100, over 768 channels of which
    the convolution after it keeps 192.

    Args:
        model: Changed in place.

    Returns:
        Number of places changed.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}

    def fits(pool: onnx.NodeProto, convolution: onnx.NodeProto) -> bool:
        kernel = weights.get(convolution.input[1])
        if kernel is None or list(kernel.dims[2:]) != [1, 1] or kernel.dims[0] >= kernel.dims[1]:
            return False
        pooling, mixing = _attributes(pool), _attributes(convolution)
        # A border of zeros that counts would weaken the bias there.
        average = not pooling.get("count_include_pad", 0) and not pooling.get("ceil_mode", 0)
        plain = mixing.get("group", 1) == 1 and set(mixing.get("strides", [1])) == {1}
        return average and plain and not any(mixing.get("pads", [])) and mixing.get("auto_pad", b"NOTSET") == b"NOTSET"

    return _swap_pairs(model.graph, "AveragePool", "Conv", fits)


def pad_channels(model: onnx.ModelProto) -> int:
    """Give convolutions of images eight channels, five of them zero.

    Args:
        model: Changed in place.

    Returns:
        Number of places changed.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    changed = 0
    for place, node in reversed(list(enumerate(graph.node))):
        kernel = weights.get(node.input[1]) if node.op_type == "Conv" else None
        if kernel is None or not 1 < kernel.dims[1] < _CHANNELS or _attributes(node).get("group", 1) != 1:
            continue
        missing = _CHANNELS - kernel.dims[1]
        array = numpy_helper.to_array(kernel)
        if array.ndim != 4:
            continue
        names = {part: f"{node.input[0]}/{_CHANNELS}_channels_{place}_{part}" for part in ("image", "kernel", "pads")}
        wide: NDArray[np.floating] = np.pad(array, [(0, 0), (0, missing), (0, 0), (0, 0)])
        graph.initializer.append(numpy_helper.from_array(wide, names["kernel"]))
        graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 0, 0, 0, missing, 0, 0]), names["pads"]))
        graph.node.insert(place, helper.make_node("Pad", [node.input[0], names["pads"]], [names["image"]]))
        widened = graph.node[place + 1]
        widened.input[0], widened.input[1] = names["image"], names["kernel"]
        changed += 1
    return changed


CHANGES = {
    "pool before ReLU": pool_before_relu,
    "convolve before average": convolve_before_average,
    "eight channels": pad_channels,
}


def _swap_pairs(
    graph: onnx.GraphProto, first: str, second: str, fits: Callable[[onnx.NodeProto, onnx.NodeProto], bool]
) -> int:
    """Let nodes that follow each other, and are seen by nobody else, change their order; return how many did."""
    outputs = {value.name for value in graph.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    changed = 0
    for node in [node for node in graph.node if node.op_type == first]:
        (between,) = node.output
        following = readers.get(between, [])
        if [reader.op_type for reader in following] == [second] and between not in outputs:
            (after,) = following
            if fits(node, after):
                _swap(node, after)
                changed += 1
    if changed:
        del graph.value_info[:]  # the shapes in between are others now
    return changed


def _swap(first: onnx.NodeProto, second: onnx.NodeProto) -> None:
    before, between, after = first.input[0], first.output[0], second.output[0]
    earlier, later = onnx.NodeProto(), onnx.NodeProto()
    earlier.CopyFrom(second)
    later.CopyFrom(first)
    earlier.input[0], earlier.output[0] = before, between
    later.input[0], later.output[0] = between, after
    first.CopyFrom(earlier)
    second.CopyFrom(later)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
