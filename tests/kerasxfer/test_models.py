import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kerasxfer import image_classifier
from kerasxfer.layers import Augmentation, ClassifierHead
from kerasxfer.layers.classifier_head import class_names_of

CLASSES = ["ant", "bee", "cat"]


def spread(model, seed=0):
    """Weights by which outputs tell inputs apart: with fresh ones every image gets nearly the same answer."""
    rng = np.random.default_rng(seed)

    def value(old):
        if old.ndim == 1:  # biases, and BatchNormalization's four
            return old + rng.uniform(0, 0.2, old.shape)
        inputs = np.prod(old.shape[:2]) if old.shape[-1] == 1 else np.prod(old.shape[:-1])
        return rng.normal(0, (3 / inputs) ** 0.5, old.shape)

    for layer in model.layers:
        layer.set_weights([value(old) for old in layer.get_weights()])
    return model


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """A narrow MobileNet, and the path of its weights."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    network = spread(keras.applications.MobileNet(alpha=0.25, include_top=False, input_shape=(32, 32, 3), weights=None))
    network.save_weights(path)
    return network, path


@pytest.fixture(scope="module")
def mobilenet_classifier(mobilenet):
    return image_classifier("mobilenet", CLASSES, (32, 32), weights=mobilenet[1], backbone_kwargs={"alpha": 0.25})


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def features_of(model, pixels):
    return keras.Model(model.input, model.layers[-1].input).predict(pixels, verbose=0)


def test_features_are_the_applications_own_on_preprocessed_pixels(mobilenet, mobilenet_classifier, pixels):
    network, _ = mobilenet

    expected = network.predict(keras.applications.mobilenet.preprocess_input(pixels.astype("float32")), verbose=0)

    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(features_of(mobilenet_classifier, pixels), expected, rtol=1e-3, atol=1e-4)
    assert mobilenet_classifier.output_shape == (None, 3)


def test_layers_lie_flat_between_preprocess_and_head(mobilenet, mobilenet_classifier):
    network, _ = mobilenet
    model = mobilenet_classifier

    names = [layer.name for layer in model.layers]
    assert names == ["images", "preprocess", *(layer.name for layer in network.layers[1:]), "head"]
    assert model.input.dtype == "uint8"
    # The named tensors belong to this graph: cutting there works.
    keras.Model(model.get_layer("conv_pw_6").output, model.output)


def test_automatic_names_count_from_zero_in_every_model():
    keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization()  # the process's own count has moved on

    model = image_classifier("InceptionV3", CLASSES, (75, 75), weights=None, backbone_output="mixed0")

    names = [layer.name for layer in model.layers]
    assert names[2:6] == ["conv2d", "batch_normalization", "activation", "conv2d_1"]
    assert "mixed0" in names
    assert "mixed1" not in names


def test_an_inner_layer_gives_the_features_of_the_whole_networks_weights(mobilenet, pixels):
    network, path = mobilenet

    model = image_classifier(
        "MobileNet", CLASSES, (32, 32), weights=path, backbone_kwargs={"alpha": 0.25}, backbone_output="conv_pw_3_relu"
    )

    inner = keras.Model(network.input, network.get_layer("conv_pw_3_relu").output)
    expected = inner.predict(pixels / np.float32(127.5) - 1, verbose=0)
    np.testing.assert_allclose(features_of(model, pixels), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"`backbone_output`.*'mixed7'.*conv_pw_13_relu"):
        image_classifier("MobileNet", CLASSES, (32, 32), weights=None, backbone_output="mixed7")


def test_the_backbone_is_frozen_with_its_batch_normalization_and_the_head_trains(mobilenet_classifier, pixels):
    model = mobilenet_classifier
    backbone, head = model.layers[2:-1], model.layers[-1]
    before = [value for layer in backbone for value in layer.get_weights()], head.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")

    model.fit(pixels, np.array([0, 1, 2, 0]), epochs=2, verbose=0)

    assert len(model.trainable_variables) == 2
    for old, new in zip(before[0], (value for layer in backbone for value in layer.get_weights()), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.allclose(before[1][0], head.get_weights()[0])


def test_trainable_leaves_the_backbone_to_train():
    model = image_classifier("DemoVGG", CLASSES, (32, 32), weights=None, trainable=True)

    assert all(layer.trainable for layer in model.layers)
    assert len(model.get_layer("block1_conv1").trainable_variables) > 0


def small_backbone():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv2d_7")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Add(name="sum")([x, keras.layers.Conv2D(4, 1, name="side")(x)])
    return spread(keras.Model(inputs, x))


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_keras_model_is_copied_with_its_weights_and_names(kind, pixels):
    network = (
        small_backbone()
        if kind == "functional"
        else spread(
            keras.Sequential(
                [keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, name="conv2d_7"), keras.layers.ReLU()]
            )
        )
    )
    pixels = pixels[:, :16, :16]

    model = image_classifier(network, CLASSES, (16, 16), preprocess="rescale")

    np.testing.assert_allclose(
        features_of(model, pixels), numpy(network(pixels / np.float32(255))), rtol=1e-4, atol=1e-5
    )
    assert model.get_layer("conv2d_7") is not network.get_layer("conv2d_7")
    assert network.get_layer("conv2d_7").trainable
    assert not model.get_layer("conv2d_7").trainable


def test_what_a_keras_model_expects_must_be_said():
    with pytest.raises(ValueError, match="`preprocess` must say what"):
        image_classifier(small_backbone(), CLASSES, (16, 16))


def test_a_subclassed_model_is_refused():
    class Network(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="functional or built sequential"):
        image_classifier(Network(), CLASSES, (16, 16), preprocess="none")


def test_head_options_reach_the_head():
    model = image_classifier(
        small_backbone(),
        ["ant", "bee"],
        (16, 16),
        preprocess="none",
        head="flatten-8-4",
        dropout=0.3,
        activation="sigmoid",
    )

    head = model.get_layer("head")
    assert (head.pooling, head.hidden_units, head.dropout, head.activation) == ("flatten", (8, 4), 0.3, "sigmoid")
    assert model.output_shape == (None, 1)


def test_a_layer_can_be_the_head():
    head = ClassifierHead(3, "max", name="mine")

    model = image_classifier(small_backbone(), CLASSES, (16, 16), preprocess="none", head=head)

    assert model.layers[-1] is head


def test_augmentation_acts_on_pixels_in_training_only(pixels):
    augmentation = Augmentation(brightness_range=(0.0, 0.0))
    model = image_classifier(small_backbone(), CLASSES, (16, 16), preprocess="none", augmentation=augmentation)
    plain = image_classifier(small_backbone(), CLASSES, (16, 16), preprocess="none", head=model.layers[-1])
    pixels = pixels[:, :16, :16]

    np.testing.assert_allclose(numpy(model(pixels)), numpy(plain(pixels)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        numpy(model(pixels, training=True)), numpy(plain(np.zeros_like(pixels))), rtol=1e-4, atol=1e-6
    )


def test_file_round_trip(tmp_path, pixels):
    model = image_classifier(
        small_backbone(),
        CLASSES,
        (16, 16),
        preprocess="caffe",
        head="average-8",
        augmentation=Augmentation(rotation_range=9),
    )
    pixels = pixels[:, :16, :16]

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    np.testing.assert_allclose(loaded.predict(pixels, verbose=0), model.predict(pixels, verbose=0), rtol=1e-5)
    assert [layer.trainable for layer in loaded.layers[3:]] == [layer.trainable for layer in model.layers[3:]]


def test_mixed_precision_computes_in_half_and_answers_in_float32(pixels):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = image_classifier(small_backbone(), CLASSES, (16, 16), preprocess="tf")

    result = model(pixels[:, :16, :16])

    assert model.get_layer("preprocess").compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(result.dtype) == "float32"


def test_demo_vgg_brings_its_own_weights(pixels):
    first, second = (image_classifier("DemoVGG", CLASSES, (32, 32)) for _ in range(2))

    features = features_of(first, pixels)

    assert np.ptp(features, axis=0).max() > 0.1
    np.testing.assert_array_equal(features, features_of(second, pixels))
    assert first.get_layer("block5_conv1").name == "block5_conv1"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"class_names": ["ant"]}, "`class_names` must be two or more"),
        ({"class_names": ["ant", "ant"]}, "`class_names` must be two or more"),
        ({"class_names": "ant"}, "`class_names` must be two or more"),
        ({"image_size": (32,)}, "`image_size` must be"),
        ({"backbone": "VGG"}, "`backbone` must be the name"),
        ({"backbone_kwargs": {"include_top": True}}, "`backbone_kwargs` must not hold include_top"),
        ({"head": "mean"}, "`head` must be"),
        ({"preprocess": "vgg"}, "`mode` must be one of"),
        ({"activation": "sigmoid"}, "one unit for two classes"),
    ],
)
def test_invalid_arguments(kwargs, message):
    arguments = {"backbone": "DemoVGG", "class_names": CLASSES, "image_size": (32, 32), "weights": None}
    with pytest.raises(ValueError, match=message):
        image_classifier(**arguments | kwargs)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="set_image_data_format"):
            image_classifier("DemoVGG", CLASSES, (32, 32))
    finally:
        keras.config.set_image_data_format("channels_last")


def test_the_class_names_travel_in_the_model_s_files(tmp_path):
    head = ClassifierHead(3, name="head")
    for given in ("average", head):
        model = image_classifier(small_backbone(), CLASSES, (16, 16), preprocess="none", head=given)
        assert class_names_of(model) == tuple(CLASSES)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert class_names_of(loaded) == tuple(CLASSES)
        assert class_names_of(keras.Sequential([keras.Input((16, 16, 3)), loaded])) == tuple(CLASSES)
    assert head.class_names == tuple(CLASSES)


def test_checkpoints_of_a_fit_carry_the_class_names(tmp_path):
    model = image_classifier(small_backbone(), CLASSES, (16, 16), preprocess="none")
    model.compile("sgd", "sparse_categorical_crossentropy")
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras")
    model.fit(np.zeros((2, 16, 16, 3)), np.zeros(2), callbacks=[checkpoint], verbose=0)
    assert class_names_of(keras.saving.load_model(tmp_path / "best.keras")) == tuple(CLASSES)


class FolderAsHub:
    """What Keras calls of `huggingface_hub`, on a folder."""

    def __init__(self, folder):
        self.folder = folder

    def HfApi(self, **kwargs):
        return self

    def create_repo(self, name, exist_ok):
        return SimpleNamespace(repo_id=name)

    def upload_folder(self, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self.folder / repo_id)

    def snapshot_download(self, repo_id, **kwargs):
        return str(self.folder / repo_id)


def test_the_class_names_go_to_the_hugging_face_hub_and_back(tmp_path, monkeypatch):
    monkeypatch.setattr("keras.src.saving.saving_lib.huggingface_hub", FolderAsHub(tmp_path))
    image_classifier(small_backbone(), CLASSES, (16, 16), preprocess="none").save("hf://you/pets")
    assert class_names_of(keras.saving.load_model("hf://you/pets")) == tuple(CLASSES)


def test_a_head_of_other_classes_is_refused():
    with pytest.raises(ValueError, match="`class_names` must be 2 names"):
        image_classifier(small_backbone(), CLASSES, (16, 16), preprocess="none", head=ClassifierHead(2))


@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV3Small",
        pytest.param("EfficientNetV2B0", marks=pytest.mark.slow),
        pytest.param("EfficientNetV2S", marks=pytest.mark.slow),
        pytest.param("ConvNeXtTiny", marks=pytest.mark.slow),
    ],
)
def test_preprocessing_left_out_of_the_application_is_put_before_it(name, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    inside = image_classifier(name, CLASSES, (64, 64), weights=None)
    before = image_classifier(
        name, CLASSES, (64, 64), weights=None, backbone_kwargs={"include_preprocessing": False}, head=inside.layers[-1]
    )
    assert before.get_layer("preprocess").mode != "none"
    for old, new in zip(_weighted(inside), _weighted(before), strict=True):
        new.set_weights(old.get_weights())
    np.testing.assert_allclose(numpy(before(pixels)), numpy(inside(pixels)), rtol=1e-3, atol=1e-5)


def _weighted(model):
    """Layers with trained weights: `Normalization` keeps its constants as weights."""
    return [layer for layer in model.layers if layer.weights and not isinstance(layer, keras.layers.Normalization)]


def test_white_reaches_a_network_without_its_own_preprocessing_as_one():
    model = image_classifier(
        "MobileNetV3Small", CLASSES, (32, 32), weights=None, backbone_kwargs={"include_preprocessing": False}
    )
    assert float(keras.ops.max(model.get_layer("preprocess")(np.full((1, 2, 2, 3), 255, "uint8")))) == 1.0


@pytest.mark.parametrize(
    "names", [np.array(["ant", "bee", "cat"]), {"cat": 2, "ant": 0, "bee": 1}, {1: "bee", 0: "ant", 2: "cat"}]
)
def test_class_names_come_in_every_form(names):
    model = image_classifier(small_backbone(), names, (16, 16), preprocess="none")
    assert class_names_of(model) == ("ant", "bee", "cat")
