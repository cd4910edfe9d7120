import keras
import numpy as np
import onnx
import pytest
from kerasxfer_serving.runtime.opening import open_session
from onnx import TensorProto, helper, numpy_helper

from kerasxfer import export_onnx
from kerasxfer.export.rewrites import fold_channel_scales


def normalised(*, steps=("Mul", "Add"), shape=(1, 4, 1, 1), constant_first=False, bias=True, second_reader=False):
    """A depthwise convolution, and products and sums after it."""
    rng = np.random.default_rng(0)
    arrays = {"kernel": rng.normal(size=(4, 1, 3, 3)), "bias": rng.normal(size=4)}
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "kernel", "bias"] if bias else ["x", "kernel"], ["maps0"], group=4),
    ]
    for number, kind in enumerate(steps):
        arrays[f"c{number}"] = rng.normal(size=shape)
        inputs = [f"maps{number}", f"c{number}"]
        nodes.append(helper.make_node(kind, inputs[::-1] if constant_first else inputs, [f"maps{number + 1}"]))
    last = f"maps{len(steps)}"
    nodes.append(helper.make_node("Relu", [last], ["relu"]))
    if second_reader:
        nodes.append(helper.make_node("Add", ["relu", "maps0"], ["sum"]))
    graph = helper.make_graph(
        nodes,
        "depthwise",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 4, 6, 6])],
        [helper.make_tensor_value_info("sum" if second_reader else "relu", TensorProto.FLOAT, [None, 4, None, None])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def run(proto):
    onnx.checker.check_model(proto, full_check=True)
    images = np.random.default_rng(1).integers(0, 256, (2, 4, 6, 6), np.uint8)
    return open_session(proto.SerializeToString(), "cpu").run(images)[0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"steps": ("Add", "Mul", "Add")},
        {"shape": (4, 1, 1), "constant_first": True},
        {"shape": ()},
    ],
    ids=str,
)
def test_what_follows_a_convolution_goes_into_it_and_the_answers_stay(options):
    proto = normalised(**options)
    expected = run(proto)
    fold_channel_scales(proto.graph)
    assert [node.op_type for node in proto.graph.node] == ["Cast", "Conv", "Relu"]
    np.testing.assert_allclose(run(proto), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("options", [{"second_reader": True}, {"shape": (1, 4, 4, 4)}, {"steps": ("Div",)}], ids=str)
def test_what_is_not_that_pattern_is_left_alone(options):
    proto = normalised(**options)
    before = proto.SerializeToString(deterministic=True)
    fold_channel_scales(proto.graph)
    assert proto.SerializeToString(deterministic=True) == before


def test_nothing_is_left_to_do_after_the_depthwise_convolutions_of_a_model(tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.DepthwiseConv2D(3, depth_multiplier=2), layers.BatchNormalization(),
         layers.ReLU(6.0), layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")]
    )  # fmt: skip
    model.layers[1].moving_variance.assign([1, 2, 3, 4, 5, 6])
    operators = export_onnx(model, tmp_path / "model.onnx", verbose=False).file.statistics["operators"]
    assert operators["Conv"] == 1
    assert "Mul" not in operators
