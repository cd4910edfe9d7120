"""Backbones of KerasHub, untrained and small, from the classifier to the file."""

import keras
import numpy as np
import pytest

import kerasxfer
from kerasxfer import image_classifier
from kerasxfer.backbones.applications import WeightsError
from kerasxfer.backbones.hub import _mode_of

keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed", exc_type=ImportError)
CLASSES = ("ant", "bee", "cat")


def resnet():
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )


def vit():
    return keras_hub.models.ViTBackbone(
        image_shape=(64, 64, 3), patch_size=16, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32
    )


def dinov2():
    return keras_hub.models.DINOV2Backbone(
        patch_size=16,
        num_layers=3,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        image_shape=(64, 64, 3),
        position_embedding_shape=(64, 64, 3),
    )


@pytest.fixture(params=[resnet, vit, dinov2])
def backbone(request):
    return request.param()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3)).astype("uint8")


def test_the_features_are_the_backbone_s_own(backbone, pixels):
    model = image_classifier(backbone, CLASSES, (64, 64), preprocess="rescale")
    features = keras.Model(model.input, model.layers[-1].input).predict(pixels, verbose=0)
    expected = backbone.predict(pixels.astype("float32") / 255, verbose=0)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(features, axis=0).max() > 0.01


@pytest.mark.parametrize(
    ("make", "names"),
    [(vit, ["transformer_block_1", "transformer_block_2", "transformer_block_3"]), (dinov2, ["layers_0", "layers_2"])],
)
def test_a_transformer_s_layers_lie_flat_and_are_unfrozen_by_number(make, names):
    model = image_classifier(make(), CLASSES, (64, 64), preprocess="rescale")
    assert set(names) <= {layer.name for layer in model.layers}
    model.get_layer(names[-1]).trainable = True
    assert model.get_layer(names[-1]).trainable_variables
    assert not model.get_layer(names[0]).trainable_variables


def test_it_trains_and_comes_back_from_its_file(backbone, pixels, tmp_path):
    model = image_classifier(backbone, CLASSES, (64, 64), preprocess="rescale")
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pixels, np.array([0, 1, 2, 0]), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(pixels, verbose=0), model.predict(pixels, verbose=0), atol=1e-6)


def test_the_file_gives_its_answers(backbone, tmp_path):
    model = image_classifier(backbone, CLASSES, (64, 64), preprocess="rescale")
    head = model.layers[-1].predictions
    head.kernel.assign(np.random.default_rng(0).normal(0, 3, head.kernel.shape))
    exported = kerasxfer.export_onnx(model, tmp_path / "model.onnx", modules=["keras_hub"], verbose=False)
    assert exported.parity["fp32"].max_difference <= 1e-5
    assert exported.manifest.class_names == CLASSES


def test_a_preset_that_cannot_be_loaded_says_so(tmp_path):
    with pytest.raises(WeightsError, match=r"cannot load the preset '.*none'"):
        image_classifier(f"hub:{tmp_path}/none", CLASSES, (64, 64))


@pytest.mark.parametrize(
    ("scale", "offset", "mode"),
    [
        (1 / 255, None, "rescale"),
        (1 / 127.5, -1.0, "tf"),
        (None, None, "none"),
        (1 / np.array([0.229, 0.224, 0.225]) / 255, -np.array([0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], "torch"),
        (2.0, None, None),
    ],
)
def test_what_a_preset_does_to_pixels_has_a_name(scale, offset, mode):
    assert _mode_of(scale, offset) == mode
