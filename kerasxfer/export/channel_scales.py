"""Scales and offsets of channels for free: the convolution before them takes them in.

The converter folds batch normalisation into convolutions, but not into depthwise ones. A runtime folds those as it
opens the file; the quantiser does not, and would round three times what is one result.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray


class _Step(NamedTuple):
    """A product or sum with a constant for each channel, right after a convolution."""

    node: onnx.NodeProto
    values: NDArray[np.float64]


def fold_channel_scales(graph: onnx.GraphProto) -> None:
    """Let each convolution do the products and sums with constants for each channel that alone follow it.

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
