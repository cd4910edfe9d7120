"""Smaller numbers: fp16 and int8 twins of an fp32 graph, by ONNX Runtime's own tools."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from kerasxfer.export.graph import INPUT, OUTPUT, canonicalise

_BATCH = 16
_ACTIVATIONS = ("Sigmoid", "Softmax")


def to_fp16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with float16 weights and arithmetic but for the last activation; inputs and outputs stay as they are.

    Args:
        proto: An fp32 graph.

    Returns:
        A new graph.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    exact = [node.name for node in copy.graph.node if OUTPUT in node.output and node.op_type in _ACTIVATIONS]
    half = convert_float_to_float16(copy, keep_io_types=True, node_block_list=exact)
    _drop_round_trips(half.graph)
    canonicalise(half.graph)  # casts stand at the end, wherever they are read
    del half.graph.value_info[:]
    return half


def _drop_round_trips(graph: onnx.GraphProto) -> None:
    """Let an exact node feed the output itself, where the conversion casts to half precision and back."""
    makers = {name: node for node in graph.node for name in node.output}
    for back in [node for node in graph.node if node.op_type == "Cast" and node.output[0] == OUTPUT]:
        there = makers.get(back.input[0])
        if there is not None and there.op_type == "Cast" and makers[there.input[0]].op_type in _ACTIVATIONS:
            makers[there.input[0]].output[0] = OUTPUT
            graph.node.remove(there)
            graph.node.remove(back)


def to_int8(proto: onnx.ModelProto, images: NDArray[np.uint8], folder: Path) -> onnx.ModelProto:
    """The graph with static int8 quantisation: QDQ, u8 activations, s8 weights with a scale for each channel.

    Weights are from -64 to 64. A processor without VNNI adds two products in 16 bits, in which 255 × 127 × 2 does not
    fit: InceptionV3 lost one point in ONNX Runtime and three in OpenVINO where weights took all of the eight bits.

    Args:
        proto: An fp32 graph.
        images: Images to calibrate on, uint8 `[n, height, width, 3]`.
        folder: For the files in between, ONNX Runtime's too.

    Returns:
        A new graph.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    before, after = folder / "fp32.onnx", folder / "int8.onnx"
    onnx.save(proto, before)
    with _quietly(), _temporary_files_in(folder):
        quantize_static(
            before,
            after,
            _reader(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=_classifier_head(proto),
        )
    return onnx.load(after)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _classifier_head(proto: onnx.ModelProto) -> list[str]:
    """Names of the last product and all that follows it: a few numbers, on which the answer hangs, stay exact."""
    nodes = list(proto.graph.node)
    products = [number for number, node in enumerate(nodes) if node.op_type in ("MatMul", "Gemm")]
    last = products[-1] if products else len(nodes) - 1
    return [node.name for node in nodes[last:]]


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the advice to fold the graph first, on the root logger: the exporter's graphs are folded."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _reader(images: NDArray[np.uint8]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[NDArray[np.uint8]] = iter(
                [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
            )

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    return Reader()
