import numpy as np
import onnx
import onnxruntime
import pytest
from kerasxfer_serving.runtime.gpu_graph import CHANGES, convolve_before_average, pad_channels, pool_before_relu
from onnx import TensorProto, helper, numpy_helper


def graph(nodes, weights, outputs=("y",), channels=3):
    rng = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name) for name, shape in weights.items()
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", channels, 12, 10])
    found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs]
    made = helper.make_graph(nodes, "graph", [image], found, tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answers(model, channels=3):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).normal(size=(2, channels, 12, 10)).astype(np.float32)
    return session.run(None, {"x": image})


def same(change, model, places, channels=3):
    before = answers(model, channels)
    names = [node.op_type for node in model.graph.node]
    assert change(model) == places
    assert (names != [node.op_type for node in model.graph.node]) == bool(places)
    for one, other in zip(before, answers(model, channels), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


POOL = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}


def test_a_maximum_comes_before_its_relu():
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MaxPool", ["r"], ["y"], **POOL)]
    same(pool_before_relu, graph(nodes, {}), 1)


def test_a_relu_that_others_read_stays():
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MaxPool", ["r"], ["y"], **POOL)]
    same(pool_before_relu, graph(nodes, {}, outputs=("y", "r")), 0)
    nodes.append(helper.make_node("Abs", ["r"], ["z"]))
    same(pool_before_relu, graph(nodes, {}, outputs=("y", "z")), 0)


@pytest.mark.parametrize(
    ("pooling", "convolution", "shape", "places"),
    [
        ({}, {}, (4, 6, 1, 1), 1),
        ({}, {"pads": [0, 0, 0, 0], "strides": [1, 1]}, (4, 6, 1, 1), 1),
        ({"count_include_pad": 1}, {}, (4, 6, 1, 1), 0),
        ({"ceil_mode": 1}, {}, (4, 6, 1, 1), 0),
        ({}, {}, (6, 6, 1, 1), 0),
        ({}, {}, (4, 6, 3, 3), 0),
        ({}, {"strides": [2, 2]}, (4, 6, 1, 1), 0),
        ({}, {"pads": [1, 1, 1, 1]}, (4, 6, 1, 1), 0),
        ({}, {"group": 2}, (4, 3, 1, 1), 0),
    ],
)
def test_an_average_comes_after_a_convolution_that_leaves_fewer_channels(pooling, convolution, shape, places):
    nodes = [
        helper.make_node("AveragePool", ["x"], ["a"], **(POOL | {"strides": [1, 1]} | pooling)),
        helper.make_node("Conv", ["a", "w", "b"], ["y"], **convolution),
    ]
    same(convolve_before_average, graph(nodes, {"w": shape, "b": shape[:1]}, channels=6), places, channels=6)


@pytest.mark.parametrize(("channels", "places"), [(3, 1), (4, 1), (8, 0), (1, 0)])
def test_images_get_eight_channels(channels, places):
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])]
    same(pad_channels, graph(nodes, {"w": (5, channels, 3, 3)}, channels=channels), places, channels=channels)


def test_two_convolutions_of_one_image():
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Conv", ["x", "w"], ["z"])]
    same(pad_channels, graph(nodes, {"w": (5, 3, 3, 3)}, outputs=("y", "z")), 2)


def test_every_change_is_listed():
    assert set(CHANGES.values()) == {pool_before_relu, convolve_before_average, pad_channels}
