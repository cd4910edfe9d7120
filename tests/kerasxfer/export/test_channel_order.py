import numpy as np
import onnx
import pytest
from kerasxfer_serving.runtime.opening import open_session
from onnx import TensorProto, helper, numpy_helper

from kerasxfer.export.rewrites import fold_channel_order


def preprocessing(*, order=(2, 1, 0), layout=(0, 3, 1, 2), second_reader=False, mean_first=True):
    """Pixels in another channel order, less their mean, through a convolution."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["x", "order"], ["ordered"], axis=-1),
        helper.make_node("Sub", ["ordered", "mean"] if mean_first else ["mean", "ordered"], ["centred"]),
        helper.make_node("Mul", ["centred", "half"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["turned"], perm=layout),
        helper.make_node("Conv", ["turned", "kernel", "bias"], ["maps"]),
    ]
    outputs = [helper.make_tensor_value_info("maps", TensorProto.FLOAT, [None, 5, None, None])]
    if second_reader:
        nodes.append(helper.make_node("Neg", ["ordered"], ["other"]))
        outputs.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [None, 4, 4, 3]))
    arrays = {
        "order": np.array(order, np.int32),
        "mean": np.array([103.9, 116.8, 123.7], np.float32),
        "half": np.array(0.5, np.float32),
        "kernel": rng.normal(size=(5, 3, 3, 3)).astype(np.float32),
        "bias": rng.normal(size=5).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "preprocessing",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 4, 4, 3])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def run(proto):
    onnx.checker.check_model(proto, full_check=True)
    images = np.random.default_rng(1).integers(0, 256, (2, 4, 4, 3), np.uint8)
    return open_session(proto.SerializeToString(), "cpu").run(images)[0]


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("mean_first", [True, False])
def test_a_reordering_goes_into_the_constants_and_the_answers_stay(order, mean_first):
    proto = preprocessing(order=order, mean_first=mean_first)
    expected = run(proto)
    fold_channel_order(proto.graph)
    assert [node.op_type for node in proto.graph.node] == ["Cast", "Sub", "Mul", "Transpose", "Conv"]
    np.testing.assert_allclose(run(proto), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [{"second_reader": True}, {"layout": (0, 3, 2, 1)}, {"order": (2, 2, 0)}],
    ids=lambda options: next(iter(options)),
)
def test_what_is_not_that_pattern_is_left_alone(options):
    proto = preprocessing(**options)
    before = proto.SerializeToString(deterministic=True)
    fold_channel_order(proto.graph)
    assert proto.SerializeToString(deterministic=True) == before
