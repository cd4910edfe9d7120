"""Every kind of model that people bring, on this run's backend: the file gives its answers, or the export fails."""

from importlib.util import find_spec

import keras
import numpy as np
import pytest
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.runtime.opening import open_session

from kerasxfer import export_onnx, image_classifier
from kerasxfer.export.answers import own_answers
from kerasxfer.export.outputs import read_output
from kerasxfer.export.parity import class_columns, compare_answers
from kerasxfer.export.proof import choose_samples

pytestmark = pytest.mark.slow
layers = keras.layers
SIZE = (96, 96)


@pytest.fixture(scope="module")
def large_samples():
    """The images that the exporter compares on."""
    return choose_samples(None, 32, SIZE, ImagePolicy())


def settle(model, images):
    """BatchNormalization takes the statistics of `images`, as training does: else depth makes images alike.

    Small scales keep the activations where they are nearly linear, so that depth does not multiply rounding either.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable, layer.momentum = True, 0.0  # a frozen one never takes any
            layer.gamma.assign(0.3 * layer.gamma)
    model(images, training=True)


def application(name, images, tell_apart, spread_head):
    """A whole application behind its preprocessing, with a head that tells the images apart."""
    model = tell_apart(image_classifier(name, ("a", "b", "c"), images.shape[1:3], weights=None))
    if name.startswith("EfficientNet"):
        settle(model, images)
    head = model.layers[-1]
    bare = keras.Model(model.inputs, layers.GlobalAveragePooling2D()(model.layers[-2].output))
    features = keras.Model(bare.inputs, layers.Dense(head.predictions.units, name="head")(bare.output))
    spread_head(features, features.get_layer("head"), images, deviation=0.45)  # untrained depth multiplies rounding
    head.predictions.set_weights(features.get_layer("head").get_weights())
    return model


def nested(images, tell_apart, spread_head):
    inner = keras.Sequential(
        [keras.Sequential([layers.Conv2D(8, 3), layers.BatchNormalization()]), layers.ReLU(), layers.MaxPooling2D()]
    )
    model = keras.Sequential(
        [keras.Input((*SIZE, 3)), layers.Rescaling(1 / 255), inner, layers.Flatten(), layers.Dense(3, name="head")]
    )
    return spread_head(tell_apart(model), model.layers[-1], images.astype("float32"))


@pytest.fixture
def model(request, large_samples, tell_apart, spread_head, small_model, custom_layers):
    images = large_samples.images
    match request.param:
        case "nested Sequential":
            return nested(images, tell_apart, spread_head)
        case "sigmoid head":
            return small_model(images, units=1, activation="sigmoid")
        case "custom layer":
            return small_model(images, [custom_layers.Gate()], activation="softmax")
        case "mixed_float16":
            keras.config.set_dtype_policy("mixed_float16")
            return small_model(images, [layers.Conv2D(16, 3, activation="relu")], activation="softmax")
    return application(request.param, images, tell_apart, spread_head)


KINDS = [
    *("VGG16", "InceptionV3", "MobileNet", "ResNet50", "EfficientNetB0"),
    *("nested Sequential", "sigmoid head", "custom layer", "mixed_float16"),
]


@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_the_file_gives_the_answers_of_a_model_that_tells_images_apart(request, model, large_samples, tmp_path):
    outputs = own_answers(model, large_samples.images, None)
    probabilities = class_columns(read_output(model, None, outputs).probabilities(outputs))
    assert np.ptp(probabilities, axis=0).max() > 0.2
    assert len(set(probabilities.argmax(axis=1))) > 1

    exported = export_onnx(model, tmp_path / "model.onnx", verbose=False)

    assert exported.parity["fp32"].max_difference <= 1e-5
    assert exported.parity["fp32"].same_top_class == 1.0
    assert exported.parity["fp32"].spread > 0.2
    if find_spec("openvino"):
        # Not the model's own answers, which may be half precision's: the file's, proved against its float32 twin above.
        expected, received = (
            open_session(exported.file.path, device).run(large_samples.images)[0] for device in ("cpu", "openvino")
        )
        in_openvino = compare_answers(expected, received, large_samples.names, ("a", "b", "c"))
        assert in_openvino.max_difference <= 1e-4
        assert in_openvino.same_top_class == 1.0
    operators = exported.file.statistics["operators"]
    assert operators["Cast"] == 1
    assert operators["Transpose"] == (2 if "nested" in request.node.name else 1)  # flattening is channels last
    assert "Shape" not in operators


@pytest.mark.parametrize(("backbone", "most"), [("VGG16", 45), ("InceptionV3", 225)])
def test_the_graph_is_small_with_preprocessing_and_a_pooled_head(backbone, most, tell_apart, spread_head, tmp_path):
    images = choose_samples(None, 32, (150, 150), ImagePolicy()).images
    model = application(backbone, images, tell_apart, spread_head)
    assert export_onnx(model, tmp_path / "model.onnx", verbose=False).file.statistics["nodes"] <= most
