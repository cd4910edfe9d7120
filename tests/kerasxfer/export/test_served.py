import keras
import numpy as np
import pytest
from PIL import Image

from kerasxfer.export.errors import ExportArgumentError
from kerasxfer.export.served import (
    as_served,
    needs_preparation,
    prepare,
    preprocessing_mode,
)
from kerasxfer.keras_internals import all_layers

layers = keras.layers


class Inner(layers.Layer):
    """A layer with a layer inside, which `model.layers` does not show."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def call(self, x):
        return self.dense(x)


def test_all_layers_reaches_layers_inside_layers_and_models():
    inner = Inner()
    nested = keras.Sequential([keras.Input((4,)), inner])
    model = keras.Sequential([keras.Input((4,)), nested])
    assert {id(inner.dense), id(inner), id(nested), id(model)} <= {id(layer) for layer in all_layers(model)}


RANDOM_LAYERS = [
    *(layers.RandomBrightness(0.5), layers.RandomContrast(0.5), layers.RandomFlip(), layers.RandomRotation(0.3)),
    *(layers.RandomTranslation(0.3, 0.3), layers.RandomZoom(0.3), layers.RandomShear(0.3, 0.3), layers.RandomInvert()),
    *(layers.RandomErasing(), layers.RandomGaussianBlur(), layers.RandomHue(0.3), layers.RandomSaturation(0.3)),
    *(layers.RandAugment(), layers.AugMix()),
]


@pytest.mark.parametrize("layer", RANDOM_LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_random_layer_becomes_the_identity_that_it_is_at_inference(layer):
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    assert np.array_equal(keras.ops.convert_to_numpy(layer(images, training=False)), images)
    prepare(keras.Sequential([keras.Input((8, 8, 3)), layer]))
    assert np.array_equal(keras.ops.convert_to_numpy(layer(images, training=True)), images)


def test_random_crop_keeps_its_own_call():
    crop = layers.RandomCrop(4, 4)
    prepare(keras.Sequential([keras.Input((8, 8, 3)), crop]))
    assert "call" not in vars(crop)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision_becomes_float32(policy):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, dtype=policy), layers.Dense(4, dtype=policy)])
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    assert needs_preparation(model)
    prepare(model)
    assert not needs_preparation(model)
    (k1, b1, k2, b2) = (keras.ops.convert_to_numpy(weight).astype("float32") for weight in model.weights)
    answer = keras.ops.convert_to_numpy(model(x))
    assert answer.dtype == np.float32
    assert answer == pytest.approx((x @ k1 + b1) @ k2 + b2, abs=1e-5)


def test_as_served_takes_pixels_and_gives_probabilities():
    model = keras.Sequential([keras.Input((4, 6, 3)), layers.Flatten(), layers.Dense(3)])
    served = as_served(model, (4, 6), "rescale", "softmax")
    assert (served.input.name, served.input_shape) == ("images", (None, 4, 6, 3))
    assert keras.backend.standardize_dtype(served.input.dtype) == "uint8"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), "uint8")
    logits = keras.ops.convert_to_numpy(model(pixels.astype("float32") / 255))
    assert keras.ops.convert_to_numpy(served(pixels)) == pytest.approx(
        np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), abs=1e-6
    )


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("vgg16", "caffe"),
        ("VGG16", "caffe"),
        ("inception_v3", "tf"),
        ("resnet_v2", "tf"),
        ("resnet", "caffe"),
        ("densenet", "torch"),
        ("mobilenet_v2", "tf"),
        ("efficientnet", "none"),
        ("rescale", "rescale"),
    ],
)
def test_preprocessing_goes_by_model_module_or_mode(name, mode):
    assert preprocessing_mode(name) == mode


def test_unknown_preprocessing_is_refused():
    with pytest.raises(ExportArgumentError, match="`preprocessing` is not known"):
        preprocessing_mode("alexnet")


def test_no_layer_keeps_a_tensor_that_tracing_would_make_an_input():
    model = keras.Sequential([keras.Input((2, 2, 3)), layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0] * 3)])
    images = np.ones((1, 2, 2, 3), "float32")
    expected = keras.ops.convert_to_numpy(model(images))
    assert any(keras.ops.is_tensor(value) for value in vars(model.layers[0]).values())
    prepare(model)
    assert not any(keras.ops.is_tensor(value) for value in vars(model.layers[0]).values())
    assert keras.ops.convert_to_numpy(model(images)) == pytest.approx(expected)


def test_a_greyscale_model_sees_what_pillow_makes_of_the_pixels():
    served = as_served(keras.Sequential([keras.Input((4, 6, 1)), layers.Flatten()]), (4, 6), None, None)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 6, 3), "uint8")
    expected = [np.asarray(Image.fromarray(image).convert("L")).ravel() for image in pixels]
    assert np.array_equal(keras.ops.convert_to_numpy(served(pixels)), expected)
