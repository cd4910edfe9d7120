import logging
import time

import numpy as np
import onnx
import pytest
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.inputs.input import Input
from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
_FLOATS = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


def write_model(
    path,
    *,
    class_names=tuple(COLOURS),
    size=(8, 10),
    layout="nhwc",
    dtype="uint8",
    batch="batch",
    activation="Softmax",
    scale=1 / 255,
    weights=None,
    manifest=True,
    policy=None,
):
    """A classifier of the mean colour, with as little as there can be in it: mean, one dense layer, activation.

    Its answer to pixels of the mean colour c (in 0-255, times `scale`) is `activation(c @ weights)`.
    """
    weights = np.eye(3)[:, : len(class_names)] * 8 if weights is None else np.array(weights)
    kind = _FLOATS[dtype]
    shape = [batch, *size, 3] if layout == "nhwc" else [batch, 3, *size]
    constants = {
        "scale": np.array(scale, np.float32),
        "axes": np.array([1, 2] if layout == "nhwc" else [2, 3]),
        "weights": weights.astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["scores" if activation else "probabilities"]),
    ]
    if activation:
        nodes.append(helper.make_node(activation, ["scores"], ["probabilities"]))
    graph = helper.make_graph(
        nodes,
        "mean colour",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, weights.shape[1]])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if manifest:
        output = "sigmoid" if activation == "Sigmoid" else "softmax"
        described = Manifest(class_names=class_names, image_size=size, output=output, policy=policy or ImagePolicy())
        model.metadata_props.add(key=METADATA_KEY, value=described.to_json())
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_multi_label_model(path, manifest):
    """A model that gives of each channel's mean c, in 0 to 1, sigmoid(8 (c - 0.5)), all three apart."""
    write_model(path, activation="Sigmoid", manifest=False)
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.full(3, -4, np.float32), "shift"))
    sigmoid = model.graph.node.pop()
    sigmoid.input[0] = "shifted"
    model.graph.node.extend([helper.make_node("Add", ["scores", "shift"], ["shifted"]), sigmoid])
    if manifest is not None:
        model.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    onnx.save(model, path)
    return path


@pytest.fixture(autouse=True)
def log_as_before():
    """What a test sends to the server's log goes nowhere else once it is over: its stream may be closed by then."""
    loggers = [logging.getLogger(name) for name in ("kerasxfer_serving", "uvicorn.error")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def limit_of_pillow():
    """Pillow's own limit is the process's, and a large `max_pixels` raises it: every test begins with the usual."""
    limit = Image.MAX_IMAGE_PIXELS
    yield
    Image.MAX_IMAGE_PIXELS = limit


@pytest.fixture(name="write_model", scope="session")
def write_model_fixture():
    return write_model


@pytest.fixture(name="write_multi_label_model", scope="session")
def write_multi_label_model_fixture():
    return write_multi_label_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A model file that tells red, green and blue images apart."""
    return write_model(tmp_path_factory.mktemp("model") / "colours.onnx")


def draw_colours(folder, count, seed=0):
    """`count` small images, each red, green or blue with noise; returns {path: colour} in the order of the paths."""
    rng = np.random.default_rng(seed)
    colours = {}
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        colour = list(COLOURS)[rng.integers(3)]
        height, width = rng.integers(6, 30, 2)
        pixels = np.array(COLOURS[colour]) + rng.normal(0, 25, (height, width, 3))
        path = folder / f"{index:05d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        colours[str(path)] = colour
    return colours


@pytest.fixture(name="draw_colours", scope="session")
def draw_colours_fixture():
    return draw_colours


@pytest.fixture(scope="session")
def rows():
    """`rows(stream)`: all rows of a stream of predictions."""

    def read(stream):
        return [row for predictions in stream for row in predictions.rows(2, all_probabilities=True)]

    return read


@pytest.fixture(scope="session")
def slowly():
    """`slowly(path, seconds)`: an image that takes its time to be fetched."""

    def delay(path, seconds):
        def open_slowly():
            time.sleep(seconds)
            return path

        return Input(path, open_slowly)

    return delay
