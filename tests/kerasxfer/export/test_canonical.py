import os
import random
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kerasxfer import image_classifier
from kerasxfer.export.graph import canonicalise


def shuffled(seed):
    """Two branches that share constants, with names, numbers and orders as a converter might choose them."""
    draw = random.Random(seed)
    low, high, unused = (f"{draw.choice('abc')}/Relu6_{end}__{draw.randint(1, 999)}" for end in ("min", "max", "x"))
    middle = f"left__{draw.randint(1, 999)}"
    constants = [
        numpy_helper.from_array(np.array(value, "float32"), name)
        for name, value in ((low, 0.0), (high, 6.0), (unused, 1.0))
    ]
    nodes = [
        helper.make_node("Clip", ["images", low, high], [middle], "left/Relu6"),
        helper.make_node("Neg", ["images"], ["other"], f"Neg__{draw.randint(1, 999)}"),
        helper.make_node("Clip", ["other", low, high], ["right:0"], "right/Relu6"),
        helper.make_node("Add", [middle, "right:0"], ["probabilities"], "add"),
    ]
    draw.shuffle(constants)
    if draw.random() < 0.5:
        nodes[0], nodes[1] = nodes[1], nodes[0]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("images", "probabilities")]
    return helper.make_graph(nodes, "classifier", ends[:1], ends[1:], constants)


def test_what_the_converter_numbers_and_orders_does_not_show():
    graphs = [shuffled(seed) for seed in range(20)]
    assert len({graph.SerializeToString(deterministic=True) for graph in graphs}) > 10
    for graph in graphs:
        canonicalise(graph)
    assert len({graph.SerializeToString(deterministic=True) for graph in graphs}) == 1


def test_names_say_layer_and_place():
    graph = shuffled(0)
    canonicalise(graph)
    assert [node.name for node in graph.node] == ["left/Relu6", "Neg", "right/Relu6", "add"]
    assert [tensor.name for tensor in graph.initializer] == ["left/Relu6/input_1", "left/Relu6/input_2"]
    assert list(graph.node[3].input) == ["left/Relu6:0", "right/Relu6:0"]
    assert list(graph.node[3].output) == ["probabilities"]
    onnx.checker.check_graph(graph)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["MobileNet", "Xception"])
def test_two_processes_write_one_file(backbone, tmp_path):
    image_classifier(backbone, ("a", "b"), (75, 75), weights=None).save(tmp_path / "model.keras")
    code = "import kerasxfer; print(kerasxfer.export_onnx('model.keras', 'model.onnx', verbose=False).file.sha256)"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(hashes) == 1
