"""VGG16 and InceptionV3 as ONNX files with random weights, made without a deep-learning framework.

The layers, and so the arithmetic, are those of `keras.applications`; batch normalisation is folded into the
convolutions, as every ONNX runtime does on loading. The answers mean nothing.
"""

from pathlib import Path

import numpy as np
import onnx
from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Layers in the channels-first layout, with weights drawn so that activations keep their size."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self.nodes, self.constants = [], []
        self._rng = np.random.default_rng(0)

    def add(self, operator: str, inputs: list[str], **attributes) -> str:
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, array) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(self, *shape: int) -> str:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        return self.constant(self._rng.normal(0, scale, shape).astype(self.dtype))

    def conv(self, x: str, channels: tuple[int, int], kernel=(3, 3), stride=1, same=True) -> str:
        height, width = kernel
        pads = [height // 2, width // 2] * 2 if same else [0] * 4
        bias = self.constant(np.zeros(channels[1], self.dtype))
        kernels = self.weights(channels[1], channels[0], height, width)
        return self.add("Relu", [self.add("Conv", [x, kernels, bias], pads=pads, strides=[stride] * 2)])

    def pool(self, kind: str, x: str, size: int, stride: int, pad: int = 0) -> str:
        return self.add(f"{kind}Pool", [x], kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def dense(self, x: str, inputs: int, units: int) -> str:
        return self.add("Gemm", [x, self.weights(units, inputs), self.constant(np.zeros(units, self.dtype))], transB=1)

    def save(self, path: Path, size: int, scores: str, classes: int) -> Path:
        probabilities = self.add("Softmax", [self.add("Cast", [scores], to=TensorProto.FLOAT)], axis=1)
        self.nodes.append(helper.make_node("Identity", [probabilities], ["probabilities"]))
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", size, size, 3])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        precision = "fp16" if self.dtype == np.float16 else "fp32"
        names = tuple(f"class_{index}" for index in range(classes))
        manifest = Manifest(class_names=names, image_size=(size, size), precision=precision)
        model.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
        onnx.save(model, path)
        return path

    def pixels(self) -> str:
        """Raw pixels as the layers take them."""
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        floats = self.add("Cast", ["images"], to=kind)
        scaled = self.add("Mul", [floats, self.constant(np.array(1 / 127.5, self.dtype))])
        centred = self.add("Sub", [scaled, self.constant(np.array(1, self.dtype))])
        return self.add("Transpose", [centred], perm=[0, 3, 1, 2])


def vgg16(path: Path, size: int = 224, dtype: str = "float16", classes: int = 1000) -> Path:
    """15.5 billion multiplications an image at 224 × 224."""
    graph = Graph(dtype)
    x, before = graph.pixels(), 3
    for layers, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(layers):
            x, before = graph.conv(x, (before, channels)), channels
        x = graph.pool("Max", x, 2, 2)
    x, inputs = graph.add("Flatten", [x]), 512 * (size // 32) ** 2
    for units in (4096, 4096):
        x, inputs = graph.add("Relu", [graph.dense(x, inputs, units)]), units
    return graph.save(path, size, graph.dense(x, inputs, classes), classes)


def inception_v3(path: Path, size: int = 299, dtype: str = "float16", classes: int = 1000) -> Path:
    """5.7 billion multiplications an image at 299 × 299."""
    graph = Graph(dtype)
    x = graph.conv(graph.pixels(), (3, 32), stride=2, same=False)
    x = graph.conv(graph.conv(x, (32, 32), same=False), (32, 64))
    x = graph.conv(graph.pool("Max", x, 3, 2), (64, 80), (1, 1))
    x = graph.pool("Max", graph.conv(x, (80, 192), same=False), 3, 2)
    for before, pooled in ((192, 32), (256, 64), (288, 64)):
        x = _mixed_35(graph, x, before, pooled)
    x = _shrink(graph, x, 288, straight=graph.conv(x, (288, 384), stride=2, same=False))
    for middle in (128, 160, 160, 192):
        x = _mixed_17(graph, x, middle)
    straight = graph.conv(graph.conv(x, (768, 192), (1, 1)), (192, 320), stride=2, same=False)
    wide = graph.conv(graph.conv(graph.conv(x, (768, 192), (1, 1)), (192, 192), (1, 7)), (192, 192), (7, 1))
    wide = graph.conv(wide, (192, 192), stride=2, same=False)
    x = graph.add("Concat", [straight, wide, graph.pool("Max", x, 3, 2)], axis=1)
    for before in (1280, 2048):
        x = _mixed_8(graph, x, before)
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x])])
    return graph.save(path, size, graph.dense(x, 2048, classes), classes)


def _mixed_35(graph: Graph, x: str, before: int, pooled: int) -> str:
    five = graph.conv(graph.conv(x, (before, 48), (1, 1)), (48, 64), (5, 5))
    three = graph.conv(graph.conv(graph.conv(x, (before, 64), (1, 1)), (64, 96)), (96, 96))
    pool = graph.conv(graph.pool("Average", x, 3, 1, 1), (before, pooled), (1, 1))
    return graph.add("Concat", [graph.conv(x, (before, 64), (1, 1)), five, three, pool], axis=1)


def _shrink(graph: Graph, x: str, before: int, straight: str) -> str:
    deep = graph.conv(graph.conv(x, (before, 64), (1, 1)), (64, 96))
    return graph.add(
        "Concat", [straight, graph.conv(deep, (96, 96), stride=2, same=False), graph.pool("Max", x, 3, 2)], axis=1
    )


def _mixed_17(graph: Graph, x: str, middle: int) -> str:
    one = graph.conv(graph.conv(x, (768, middle), (1, 1)), (middle, middle), (1, 7))
    two = graph.conv(graph.conv(x, (768, middle), (1, 1)), (middle, middle), (7, 1))
    two = graph.conv(graph.conv(two, (middle, middle), (1, 7)), (middle, middle), (7, 1))
    branches = [
        graph.conv(x, (768, 192), (1, 1)),
        graph.conv(one, (middle, 192), (7, 1)),
        graph.conv(two, (middle, 192), (1, 7)),
        graph.conv(graph.pool("Average", x, 3, 1, 1), (768, 192), (1, 1)),
    ]
    return graph.add("Concat", branches, axis=1)


def _mixed_8(graph: Graph, x: str, before: int) -> str:
    one = graph.conv(x, (before, 384), (1, 1))
    two = graph.conv(graph.conv(x, (before, 448), (1, 1)), (448, 384))
    branches = [graph.conv(x, (before, 320), (1, 1))]
    branches += [graph.conv(stem, (384, 384), kernel) for stem in (one, two) for kernel in ((1, 3), (3, 1))]
    branches.append(graph.conv(graph.pool("Average", x, 3, 1, 1), (before, 192), (1, 1)))
    return graph.add("Concat", branches, axis=1)
