import json

import numpy as np
import pytest
from kerasxfer_serving import ImagePolicy, Manifest, Predictor
from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.model.foreign import describe, read_labels, unique_names
from kerasxfer_serving.model.model_file import load_model_file

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 10, 3), dtype=np.uint8)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# As written in keras.applications.imagenet_utils and in torchvision's documentation.
EXPECTED = {
    "none": lambda pixels: pixels,
    "rescale": lambda pixels: pixels / 255,
    "tf": lambda pixels: pixels / 127.5 - 1,
    "caffe": lambda pixels: pixels[..., ::-1] - [103.939, 116.779, 123.68],
    "imagenet": lambda pixels: (pixels / 255 - MEAN) / STD,
}


def softmax(scores):
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


@pytest.fixture
def foreign(tmp_path, write_model):
    def write(**options):
        options = {"manifest": False, "dtype": "float", "scale": 0.05, "weights": np.eye(3), **options}
        return write_model(tmp_path / "foreign.onnx", **options)

    return write


@pytest.mark.parametrize("activation", ["Softmax", None])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("normalisation", EXPECTED)
def test_the_graph_gets_what_it_wants(foreign, normalisation, layout, activation):
    path = foreign(layout=layout, activation=activation)
    manifest = describe(load_model_file(path), normalisation=normalisation)
    assert (manifest.layout, manifest.image_size) == (layout, (8, 10))
    assert manifest.output == ("softmax" if activation else "logits")
    wanted = EXPECTED[normalisation](PIXELS.astype(np.float64)).mean(axis=(1, 2)) * 0.05
    answer = Predictor(path, manifest=manifest, device="cpu").predict(PIXELS)
    np.testing.assert_allclose(answer.probabilities, softmax(wanted), atol=1e-5)


def test_half_precision_and_a_fixed_batch(foreign):
    path = foreign(layout="nchw", dtype="float16", batch=2)
    manifest = describe(load_model_file(path), normalisation="tf")
    wanted = EXPECTED["tf"](PIXELS.astype(np.float64)).mean(axis=(1, 2)) * 0.05
    answer = Predictor(path, manifest=manifest, device="cpu").predict(PIXELS[:3])
    np.testing.assert_allclose(answer.probabilities, softmax(wanted)[:3], atol=1e-3)


def test_features_of_a_foreign_model(foreign):
    path = foreign(activation=None)
    manifest = describe(load_model_file(path), normalisation="rescale")
    predictions = Predictor(path, manifest=manifest, device="cpu", features=True).predict(PIXELS)
    np.testing.assert_allclose(predictions.features, PIXELS.mean(axis=(1, 2)) / 255 * 0.05, atol=1e-6)
    np.testing.assert_allclose(predictions.probabilities, softmax(predictions.features), atol=1e-6)


def test_a_sidecar_says_it_too(foreign):
    path = foreign(layout="nchw")
    said = {"class_names": ["a", "b", "c"], "image_size": [8, 10], "layout": "nchw", "normalisation": "tf"}
    path.with_name("foreign.onnx.json").write_text(json.dumps(said))
    wanted = EXPECTED["tf"](PIXELS.astype(np.float64)).mean(axis=(1, 2)) * 0.05
    answer = Predictor(path, device="cpu").predict(PIXELS)
    assert answer.class_names == ("a", "b", "c")
    np.testing.assert_allclose(answer.probabilities, softmax(wanted), atol=1e-5)


def test_what_the_graph_leaves_open_must_be_said(foreign):
    file = load_model_file(foreign(size=("height", "width")))
    with pytest.raises(ModelError, match="--image-size"):
        describe(file, normalisation="tf")
    manifest = describe(
        file, normalisation="tf", image_size=(8, 10), class_names=["x", "y", "z"], policy=ImagePolicy(resize="pad")
    )
    assert manifest.class_names == ("x", "y", "z")
    assert Predictor(file.path, manifest=manifest, device="cpu").predict(PIXELS).status == ["ok"] * 4


def test_class_names_are_numbered_where_nothing_is_known(foreign):
    manifest = describe(load_model_file(foreign()), normalisation="none")
    assert manifest.class_names == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize(
    ("name", "text"),
    [("l.txt", "cat\ndog\n\n"), ("l.json", '["cat", "dog"]'), ("l.json", '{"1": "dog", "0": "cat"}')],
)
def test_labels_from_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_labels(tmp_path / name) == ["cat", "dog"]


def test_labels_that_are_none(tmp_path):
    (tmp_path / "l.json").write_text("{")
    for name in ("l.json", "none.txt"):
        with pytest.raises(ModelError, match="no list of labels"):
            read_labels(tmp_path / name)


def test_names_that_occur_twice_get_their_number():
    assert unique_names(["crane", "cat", "crane"]) == ("crane (0)", "cat", "crane (2)")


def test_an_output_that_is_not_there(tmp_path, write_model, model):
    manifest = Manifest(class_names=("a", "b", "c"), image_size=(8, 10), output_name="nothing")
    assert Predictor(model, manifest=manifest, device="cpu").predict(PIXELS).status == ["ok"] * 4  # there is only one


def test_a_model_without_dense_layer_has_no_features(model, tmp_path):
    import onnx

    proto = onnx.load(model)
    del proto.graph.node[3:]
    proto.graph.node[2].output[0] = "probabilities"
    onnx.save(proto, tmp_path / "mean.onnx")
    with pytest.raises(ModelError, match="dense layer"):
        Predictor(tmp_path / "mean.onnx", device="cpu", features=True)
