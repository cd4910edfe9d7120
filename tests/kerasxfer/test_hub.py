"""Backbones of KerasHub, untrained and small, from the classifier to the file."""

import keras
import numpy as np
import pytest

import kerasxfer
from kerasxfer import Stage, image_classifier, layer_groups
from kerasxfer.backbones.applications import WeightsError
from kerasxfer.backbones.hub import _mode_of
from kerasxfer.callbacks import ProgressiveUnfreezing

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


def efficientnet():
    return keras_hub.models.EfficientNetBackbone(
        stackwise_width_coefficients=[1.0] * 3,
        stackwise_depth_coefficients=[1.0] * 3,
        stackwise_kernel_sizes=[3, 3, 3],
        stackwise_num_repeats=[1, 2, 1],
        stackwise_input_filters=[16, 8, 16],
        stackwise_output_filters=[8, 16, 24],
        stackwise_expansion_ratios=[1, 4, 4],
        stackwise_strides=[1, 2, 2],
        stackwise_squeeze_and_excite_ratios=[0.25] * 3,
        stackwise_block_types=["v1", "fused", "unfused"],
        stackwise_force_input_filters=[0] * 3,
        stackwise_nores_option=[False] * 3,
        num_features=32,
        dropout=0.0,
        image_shape=(64, 64, 3),
    )


def mobilenet():
    return keras_hub.models.MobileNetBackbone(
        stackwise_expansion=[[16], [24, 24]],
        stackwise_num_blocks=[1, 2],
        stackwise_num_filters=[[16], [24, 24]],
        stackwise_kernel_size=[[3], [5, 5]],
        stackwise_num_strides=[[2], [2, 1]],
        stackwise_se_ratio=[[None], [0.25, 0.25]],
        stackwise_activation=[["relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1], [2, 2]],
        output_num_filters=32,
        depthwise_filters=16,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=32,
        squeeze_and_excite=0.5,
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


@pytest.fixture(params=[resnet, efficientnet, mobilenet, vit, dinov2])
def backbone(request):
    return request.param()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3)).astype("uint8")


def test_the_features_are_the_backbone_s_own(backbone, pixels):
    model = image_classifier(backbone, CLASSES, (64, 64), preprocess="rescale")
    features = keras.Model(model.input, model.layers[-1].input).predict(pixels, verbose=0)
    expected = backbone.predict(pixels.astype("float32") / 255, verbose=0)
    largest = np.abs(expected).max()  # MobileNet's are small while it is untrained
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4 * largest)
    assert np.ptp(features, axis=0).max() > 0.1 * largest


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


BLOCKS = {
    resnet: ["stem", "stack0_block0", "stack1_block0"],
    efficientnet: ["stem", "block1a", "block2a", "block2b", "block3a", "top"],
    mobilenet: ["stem", "block_0", "block_1", "block_2", "block_3"],
    vit: ["stem", "transformer_block_1", "transformer_block_2", "transformer_block_3"],
    dinov2: ["stem", "layers_0", "layers_1", "layers_2"],
}


def weights(layers):
    return [np.array(value) for layer in layers for value in layer.get_weights()]


@pytest.mark.parametrize("make", BLOCKS)
def test_its_blocks_are_found_unfrozen_and_cached_below(make, pixels, tmp_path):
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        models.append(image_classifier(make(), CLASSES, (64, 64), preprocess="rescale"))
        models[-1].compile("adam", "sparse_categorical_crossentropy")
    plain, cached = models
    blocks = layer_groups(plain).blocks
    assert [block.name for block in blocks] == BLOCKS[make]
    before = weights(blocks[-1].layers)
    cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
    for fit, first in ((plain.fit, ()), (cache.fit, (cached,))):
        stages = [Stage(epochs=1), Stage(blocks[-1].name, epochs=1)]
        unfreezing = ProgressiveUnfreezing(stages, verbose=0)
        fit(*first, pixels, np.array([0, 1, 2, 0]), epochs=2, callbacks=[unfreezing], shuffle=False, verbose=0)
    assert len(cache.list()) == 2
    assert not all(map(np.array_equal, weights(blocks[-1].layers), before))
    for ours, theirs in zip(weights([cached]), weights([plain]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("preset", ["no/folder", "hf://nobody/none", "kaggle://nobody/none/keras/none", "no_preset"])
def test_a_preset_that_cannot_be_loaded_says_so(preset, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match=f"cannot load the preset '{preset}'(.|\\n)*needs a connection"):
        image_classifier(f"hub:{preset}", CLASSES, (64, 64))


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
