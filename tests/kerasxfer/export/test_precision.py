from collections import Counter

import numpy as np
import onnx
import pytest
from kerasxfer_serving.runtime.opening import open_session
from onnx import TensorProto, helper, numpy_helper

from kerasxfer.export.precision import to_fp16, to_int8


@pytest.fixture(scope="module")
def proto():
    """Pixels to two classes by two convolutions, a pooling and a dense layer."""
    rng = np.random.default_rng(0)
    weights = {
        "scale": np.float32(1 / 127.5),
        "k1": rng.normal(0, 0.3, (8, 3, 3, 3)).astype("float32"),
        "k2": rng.normal(0, 0.2, (16, 8, 3, 3)).astype("float32"),
        "axes": np.array([2, 3]),
        "dense": rng.normal(0, 1, (16, 2)).astype("float32"),
        "bias": np.array([0.1, -0.1], "float32"),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["x0"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x0", "scale"], ["x1"], "mul"),
        helper.make_node("Transpose", ["x1"], ["x2"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x2", "k1"], ["x3"], "conv1"),
        helper.make_node("Relu", ["x3"], ["x4"], "relu1"),
        helper.make_node("Conv", ["x4", "k2"], ["x5"], "conv2"),
        helper.make_node("Relu", ["x5"], ["x6"], "relu2"),
        helper.make_node("GlobalAveragePool", ["x6"], ["x7"], "pool"),
        helper.make_node("Squeeze", ["x7", "axes"], ["x8"], "squeeze"),
        helper.make_node("MatMul", ["x8", "dense"], ["x9"], "matmul"),
        helper.make_node("Add", ["x9", "bias"], ["x10"], "add"),
        helper.make_node("Softmax", ["x10"], ["probabilities"], "softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 32, 40, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def answers(proto, images):
    return open_session(proto.SerializeToString(), "cpu").run(images)[0]


def types(proto):
    return (
        proto.graph.input[0].type.tensor_type.elem_type,
        proto.graph.output[0].type.tensor_type.elem_type,
    )


def test_the_graph_tells_images_apart(proto, samples, tmp_path):
    assert np.ptp(answers(proto, samples.images)[:, 0]) > 0.1


def test_fp16_keeps_inputs_and_outputs_and_halves_the_weights(proto, samples, tmp_path):
    half = to_fp16(proto)
    assert types(half) == types(proto) == (TensorProto.UINT8, TensorProto.FLOAT)
    kernels = [tensor.data_type for tensor in half.graph.initializer if len(tensor.dims) == 4]
    assert kernels == [TensorProto.FLOAT16] * 2
    assert answers(half, samples.images) == pytest.approx(answers(proto, samples.images), abs=5e-3)
    assert proto.graph.initializer[1].data_type == TensorProto.FLOAT


def test_int8_weights_have_a_scale_for_each_channel(proto, samples, tmp_path):
    small = to_int8(proto, samples.images, tmp_path)
    assert types(small) == types(proto)
    kernels = [numpy_helper.to_array(tensor) for tensor in small.graph.initializer if tensor.name == "k2_quantized"]
    scales = [numpy_helper.to_array(tensor) for tensor in small.graph.initializer if tensor.name == "k2_scale"]
    assert kernels[0].dtype == np.int8
    assert np.abs(kernels[0].astype(int)).max() == 64, "two products with 255 fit into 16 bits"
    assert scales[0].shape == (16,)
    activations = {
        numpy_helper.to_array(tensor).dtype
        for tensor in small.graph.initializer
        if tensor.name.startswith("x") and tensor.name.endswith("zero_point")
    }
    assert activations == {np.dtype(np.uint8)}


def test_int8_gives_nearly_the_same_answers(proto, samples, tmp_path):
    small = to_int8(proto, samples.images, tmp_path)
    assert answers(small, samples.images) == pytest.approx(answers(proto, samples.images), abs=0.05)


def test_int8_leaves_the_last_product_and_softmax_exact(proto, samples, tmp_path):
    small = to_int8(proto, samples.images, tmp_path)
    producers = {output: node.op_type for node in small.graph.node for output in node.output}
    (softmax,) = (node for node in small.graph.node if node.op_type == "Softmax")
    (product,) = (node for node in small.graph.node if node.op_type == "MatMul")
    assert producers[softmax.input[0]] == "Add"
    assert product.input[1] == "dense"
    assert Counter(node.op_type for node in small.graph.node)["Conv"] == 2


def test_int8_is_repeatable(proto, samples, tmp_path):
    first, again = (to_int8(proto, samples.images, tmp_path).SerializeToString(deterministic=True) for _ in range(2))
    assert first == again


def test_fp16_computes_all_but_the_last_activation_in_half_precision(proto):
    half = to_fp16(proto).graph
    kinds = {tensor.name: tensor.data_type for tensor in half.initializer}
    inferred = onnx.shape_inference.infer_shapes(to_fp16(proto)).graph
    kinds |= {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    for node in half.node:
        if node.op_type in ("Conv", "MatMul", "GlobalAveragePool"):
            assert all(kinds[name] == TensorProto.FLOAT16 for name in node.input), node.name
        if node.op_type == "Softmax":
            assert kinds[node.input[0]] == TensorProto.FLOAT
    assert [node.op_type for node in half.node].count("Cast") == 2
