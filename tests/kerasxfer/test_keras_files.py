import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras.applications.vgg16 import preprocess_input
from kerasxfer_serving.errors import ModelError, UsageError

from kerasxfer.keras_files import load_model
from kerasxfer.layers import Preprocess

layers = keras.layers


def small_model(*more):
    return keras.Sequential([keras.Input((4,)), *more, layers.Dense(2)])


@pytest.fixture(params=["keras", "h5"])
def saved(request, tmp_path):
    path = tmp_path / f"model.{request.param}"
    model = small_model()
    model.save(path)
    return path, model


def with_config(path, config):
    """The `.keras` file with another `config.json`."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**members, "config.json": config}.items():
            archive.writestr(name, data)


def test_a_file_gives_the_model_s_answers(saved):
    path, model = saved
    x = np.ones((1, 4), "float32")
    assert np.array_equal(load_model(path).predict(x, verbose=0), model.predict(x, verbose=0))


def test_what_is_no_model_file_is_refused(tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    (tmp_path / "broken.h5").write_bytes(b"no hdf5")
    (tmp_path / "model.pt").write_bytes(b"")
    small_model().save_weights(tmp_path / "only.weights.h5")
    for name, message in (
        ("missing.keras", "The model file .* does not exist"),
        ("broken.keras", "Keras cannot read .* not a zip file"),
        ("broken.h5", "Keras cannot read"),
        ("model.pt", r"must be a `.keras` or `.h5` file"),
        ("only.weights.h5", "weights without a model"),
    ):
        with pytest.raises(ModelError, match=message):
            load_model(tmp_path / name)


def test_a_configuration_that_unpacks_to_gigabytes_is_refused_by_the_directory_of_the_archive(tmp_path):
    path = tmp_path / "bomb.keras"
    small_model().save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("assets/x", "w") as member:
        for _ in range(100):
            member.write(bytes(1 << 20))
    with pytest.raises(ModelError, match=r"unpacks to \d+,\d+,\d+ bytes"):
        load_model(path)
    with_config(path, b" " * (65 << 20))
    with pytest.raises(ModelError, match=r"config\.json unpacks to 68,157,440 bytes"):
        load_model(path)


@pytest.mark.parametrize("config", ["[" * 100_000 + "]" * 100_000, "null", "[]", "{", '{"class_name": 3}'])
def test_a_configuration_that_is_none_ends_in_a_sentence(tmp_path, config):
    path = tmp_path / "model.keras"
    small_model().save(path)
    with_config(path, config.encode())
    with pytest.raises(ModelError, match=r"model\.keras"):
        load_model(path)


def test_models_nested_deeper_than_keras_reads_end_in_a_sentence(tmp_path):
    path = tmp_path / "model.keras"
    small_model().save(path)
    config = json.loads(zipfile.ZipFile(path).read("config.json"))
    for _ in range(300):
        config = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [config]}}
    with_config(path, json.dumps(config).encode())
    with pytest.raises(ModelError, match=r"model\.keras"):
        load_model(path)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_code_needs_permission(tmp_path, suffix):
    path = tmp_path / f"code.{suffix}"
    small_model(layers.Lambda(lambda x: x * 2, output_shape=(4,))).save(path)
    with pytest.raises(ModelError, match="`--unsafe`"):
        load_model(path)
    assert load_model(path, safe_mode=False).layers[0].name.startswith("lambda")


@pytest.fixture(params=["keras", "h5"])
def calls_preprocess_input(request, tmp_path):
    """Make a file of a model with this function in a `Lambda` layer."""

    def make(function):
        images = keras.Input((8, 8, 3))
        x = layers.GlobalMaxPooling2D()(layers.Lambda(function, name="normalise")(images))
        model = keras.Model(images, layers.Dense(2)(x))
        path = tmp_path / f"model.{request.param}"
        model.save(path)
        return path, model

    return make


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")


@pytest.mark.parametrize("name", ["densenet", "DenseNet121"])
def test_preprocess_input_is_that_of_the_application_that_is_named(calls_preprocess_input, images, name):
    path, model = calls_preprocess_input(keras.applications.densenet.preprocess_input)
    with pytest.raises(ModelError, match=r"`normalise` calls `preprocess_input`.*`--preprocess-input`"):
        load_model(path)
    loaded, other = (load_model(path, preprocess_input=known) for known in (name, "vgg16"))
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, atol=1e-6)
    assert not np.allclose(other.predict(images, verbose=0), expected)


def test_no_application_of_that_name_ends_in_a_sentence(calls_preprocess_input):
    path, _ = calls_preprocess_input(preprocess_input)
    with pytest.raises(UsageError, match=r"module or model of `keras\.applications`"):
        load_model(path, preprocess_input="vgg99")


def test_a_lambda_s_code_misses_its_imports_and_the_remedy_helps(calls_preprocess_input, images):
    path, model = calls_preprocess_input(lambda x: preprocess_input(x))
    for safe_mode in (True, False):
        with pytest.raises(ModelError, match=r"(?s)Preprocess\(\"VGG16\"\).*model\.load_weights\("):
            load_model(path, safe_mode=safe_mode)
    pixels = keras.Input((8, 8, 3))
    rebuilt = keras.Model(pixels, layers.Dense(2)(layers.GlobalMaxPooling2D()(Preprocess("VGG16")(pixels))))
    rebuilt.load_weights(path)
    np.testing.assert_allclose(rebuilt.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-4)


def test_a_program_in_a_layer_needs_permission(tmp_path):
    path = tmp_path / "model.keras"
    small_model().save(path)
    config = json.loads(zipfile.ZipFile(path).read("config.json"))
    config["config"]["layers"][1]["class_name"] = "TFSMLayer"
    with_config(path, json.dumps(config).encode())
    with pytest.raises(ModelError, match="TFSMLayer"):
        load_model(path)


@pytest.mark.parametrize("kind", ["external file", "link", "size"])
def test_weights_that_are_elsewhere_or_too_large_are_refused(tmp_path, kind):
    path = tmp_path / "model.h5"
    small_model().save(path)
    with h5py.File(path, "a") as file:
        if kind == "external file":
            file.create_dataset("x", (4,), "u1", external=[(str(tmp_path / "secret"), 0, 4)])
        elif kind == "link":
            file["x"] = h5py.ExternalLink("other.h5", "/x")
        else:
            file.create_dataset("x", (1 << 20, 1 << 12), "f4", chunks=(1, 1 << 12), compression="gzip")
    with pytest.raises(ModelError, match=r"another file|another place|its weights unpacks"):
        load_model(path)
