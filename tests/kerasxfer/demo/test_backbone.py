import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from kerasxfer.backbones.demo_vgg import WEIGHTS, DemoVGG, preprocess_input
from kerasxfer.demo.images import TASK_CLASSES, draw_image


def test_the_layers_have_the_names_and_the_order_of_vgg16():
    vgg16 = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    own = [layer.name for layer in DemoVGG(weights=None, input_shape=(32, 32, 3)).layers[1:]]
    assert [name for name in own if not name.endswith(("_bn", "_relu"))] == [layer.name for layer in vgg16.layers[1:]]


def test_the_weights_are_small_enough_to_travel_in_the_package():
    assert WEIGHTS.stat().st_size <= 2_000_000


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 2, 3, 96)), ("avg", (None, 96)), ("max", (None, 96))])
def test_pooling(pooling, shape):
    assert DemoVGG(weights=None, input_shape=(64, 96, 3), pooling=pooling).output_shape == shape


def test_any_size_of_image_without_an_input_shape():
    model = DemoVGG(weights=None)
    for size in (32, 64):
        assert model(np.zeros((1, size, size, 3), "float32")).shape == (1, size // 32, size // 32, 96)


def test_an_input_tensor_is_used():
    tensor = keras.Input((32, 32, 3), name="mine")
    assert DemoVGG(weights=None, input_tensor=tensor).inputs[0] is tensor


def test_weights_from_a_path(tmp_path):
    saved = DemoVGG(weights=None, input_shape=(32, 32, 3))
    saved.save_weights(tmp_path / "own.weights.h5")
    loaded = DemoVGG(weights=tmp_path / "own.weights.h5", input_shape=(32, 32, 3))
    for before, after in zip(saved.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"include_top": True}, "`include_top` must be `False`.*Received: include_top=True"),
        ({"pooling": "mean"}, "`pooling` must be .*Received: pooling='mean'"),
        ({"weights": "imagenet"}, "`weights` must be 'demo', .*Received: weights='imagenet'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DemoVGG(**arguments)


def test_preprocessing_is_mode_tf():
    pixels = np.array([[[[0.0, 127.5, 255.0]]]])
    expected = keras.applications.mobilenet_v2.preprocess_input(pixels.copy())
    np.testing.assert_allclose(preprocess_input(pixels), expected, atol=1e-6)


def test_the_features_tell_classes_apart_that_the_backbone_never_saw():
    def drawn(per_class, seed):
        rng = np.random.default_rng(seed)
        images = [draw_image(name, 48, rng) for name in TASK_CLASSES for _ in range(per_class)]
        return preprocess_input(np.stack(images).astype("float32")), np.repeat(range(len(TASK_CLASSES)), per_class)

    train, held_out = drawn(40, 1), drawn(40, 2)
    accuracy = {}
    for weights in ("demo", None):
        backbone = DemoVGG(weights=weights, input_shape=(48, 48, 3), pooling="avg")
        features = [backbone.predict(images, verbose=0) for images, _ in (train, held_out)]
        scale = features[0].std() + 1e-9
        classifier = LogisticRegression(max_iter=1000).fit(features[0] / scale, train[1])
        accuracy[weights] = classifier.score(features[1] / scale, held_out[1])
    assert accuracy["demo"] > 0.8
    assert accuracy[None] < 0.6
