import hashlib
import json

import keras
import numpy as np
import pytest
from kerasxfer_serving.images import ImagePolicy

from kerasxfer.export.errors import ExportError
from kerasxfer.export.source import open_source, own_answers, read_model, reference_model

layers = keras.layers


@pytest.fixture
def model(samples, small_model):
    return small_model(samples.images)


@pytest.fixture
def run(tmp_path, model):
    model.save(tmp_path / "model.keras")
    config = {
        "class_names": ["cats", "dogs", "newts"],
        "image_size": [32, 40],
        "policy": {"resize": "pad"},
        "backbone": "VGG16",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize("name", ["", "model.keras"])
def test_a_run_folder_brings_what_is_known(run, name):
    source = open_source(run / name)
    assert source.class_names == ("cats", "dogs", "newts")
    assert source.image_size == (32, 40)
    assert source.policy == ImagePolicy(resize="pad")
    assert source.record.config.backbone == "VGG16"
    assert source.sha256 == hashlib.sha256((run / "model.keras").read_bytes()).hexdigest()


def test_a_model_in_memory_is_known_by_architecture_and_weights(model):
    before = open_source(model).sha256
    assert open_source(model).sha256 == before
    bias = model.get_layer("head").bias
    bias.assign(keras.ops.convert_to_numpy(bias) + 1)
    assert open_source(model).sha256 != before


def test_h5_is_read(tmp_path, model, samples):
    model.save(tmp_path / "model.h5")
    source = open_source(tmp_path / "model.h5")
    _, file = reference_model(source, tmp_path)
    assert file.suffix == ".keras"
    expected = own_answers(model, samples.images, None)
    assert own_answers(source.model, samples.images, None) == pytest.approx(expected, abs=1e-6)


def test_own_answers_are_predict_s_whatever_the_count(model, samples):
    expected = model.predict(samples.images[:19].astype("float32"), verbose=0)
    assert own_answers(model, samples.images[:19], None) == pytest.approx(expected, abs=1e-5)


def test_own_answers_put_the_preprocessing_in_front(samples, small_model):
    bare = small_model(samples.images)
    images = samples.images[:4]
    expected = bare.predict(images[..., ::-1] - np.array([103.939, 116.779, 123.68], "float32"), verbose=0)
    assert own_answers(bare, images, "caffe") == pytest.approx(expected, abs=1e-4)


def test_half_precision_is_compared_as_its_float32_twin(tmp_path, samples, small_model):
    keras.config.set_dtype_policy("mixed_float16")
    model = small_model(samples.images)
    twin, _ = reference_model(open_source(model), tmp_path)
    assert model.layers[2].compute_dtype == "float16"
    assert twin.layers[2].compute_dtype == "float32"
    exact, rounded = own_answers(twin, samples.images, None), own_answers(model, samples.images, None)
    assert exact == pytest.approx(rounded, abs=0.1)
    assert not np.array_equal(exact, rounded)


def test_missing_and_unreadable_files_are_refused(tmp_path):
    with pytest.raises(ExportError, match="There is no model"):
        open_source(tmp_path / "missing.keras")
    with pytest.raises(ExportError, match=r"A run folder holds `model.keras`"):
        open_source(tmp_path)
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    with pytest.raises(ExportError, match="Keras cannot read"):
        open_source(tmp_path / "broken.keras")


def test_python_code_in_a_file_needs_permission(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Lambda(lambda x: x * 2)])
    model.save(tmp_path / "code.keras")
    with pytest.raises(ExportError, match=r"safe_mode=False"):
        open_source(tmp_path / "code.keras")
    assert open_source(tmp_path / "code.keras", safe_mode=False).image_size == (4, 4)


def test_a_custom_layer_is_found_by_its_file_and_travels_with_the_model(tmp_path, custom_layers, rich_model):
    rich_model.save(tmp_path / "rich.keras")
    source = open_source(tmp_path / "rich.keras", modules=[custom_layers.__file__])
    assert ("export_test_layers", custom_layers.__file__) in source.modules
    assert ("export_test_layers", custom_layers.__file__) in open_source(rich_model).modules
    with pytest.raises(ExportError, match="no module `missing_module`"):
        open_source(rich_model, modules=["missing_module"])


def test_a_class_of_the_main_module_is_refused(monkeypatch, rich_model, custom_layers):
    monkeypatch.setattr(custom_layers.Gate, "__module__", "__main__")
    with pytest.raises(ExportError, match="`Gate` in `__main__`"):
        open_source(rich_model)


def test_other_shapes_are_refused():
    image, number = keras.Input((4, 4, 3)), keras.Input((2,))
    flat = layers.Flatten()(image)
    for model, message in (
        (keras.Model([image, number], layers.Dense(2)(layers.Concatenate()([flat, number]))), "has one input"),
        (keras.Model(image, [layers.Dense(2)(flat), layers.Dense(3)(flat)]), "has one output"),
        (keras.Model(number, layers.Dense(2)(number)), "input of a classifier has 4 dimensions"),
        (keras.Model(image, layers.Conv2D(2, 1)(image)), "output of a classifier has 2 dimensions"),
        (keras.Sequential([layers.Dense(2)]), "no known input shape"),
    ):
        with pytest.raises(ExportError, match=message):
            open_source(model)


def test_a_run_says_the_size_of_a_model_that_takes_any(tmp_path):
    model = keras.Sequential([keras.Input((None, None, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    assert open_source(tmp_path).image_size is None
    (tmp_path / "config.json").write_text('{"image_size": [20, 30], "policy": {}, "backbone": null}')
    source = open_source(tmp_path)
    assert (source.image_size, source.fixed_size) == ((20, 30), None)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow reads them")
def test_only_tensorflow_reads_a_saved_model(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ExportError, match="KERAS_BACKEND=tensorflow"):
        read_model(tmp_path)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow alone reads them")
def test_tensorflow_reads_a_saved_model(tmp_path, model, samples):
    model.export(tmp_path / "saved", verbose=False)
    source = open_source(tmp_path / "saved")
    assert source.image_size == (32, 40)
    expected = own_answers(model, samples.images, None)
    assert own_answers(source.model, samples.images, None) == pytest.approx(expected, abs=1e-6)
