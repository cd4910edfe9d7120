import hashlib
import json

import keras
import numpy as np
import pytest
from kerasxfer_serving.images import ImagePolicy

from kerasxfer.export.answers import own_answers, reference_model
from kerasxfer.export.errors import ExportError
from kerasxfer.export.source import open_source, read_source

layers = keras.layers


@pytest.fixture
def opened(tmp_path_factory):
    """`open_source` with a private folder of its own."""

    def open_(model_or_path, **options):
        return open_source(model_or_path, tmp_path_factory.mktemp("private"), **options)

    return open_


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
def test_a_run_folder_brings_what_is_known(run, name, opened):
    source = opened(run / name)
    assert source.class_names == ("cats", "dogs", "newts")
    assert source.image_size == (32, 40)
    assert source.policy == ImagePolicy(resize="pad")
    assert source.record.config.backbone == "VGG16"
    assert source.sha256 == hashlib.sha256((run / "model.keras").read_bytes()).hexdigest()


def test_a_model_in_memory_is_known_by_architecture_and_weights(model, opened):
    before = opened(model).sha256
    assert opened(model).sha256 == before
    bias = model.get_layer("head").bias
    bias.assign(keras.ops.convert_to_numpy(bias) + 1)
    assert opened(model).sha256 != before


def test_h5_is_read(tmp_path, model, samples, opened):
    model.save(tmp_path / "model.h5")
    source = opened(tmp_path / "model.h5")
    assert source.file.suffix == ".keras"
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


def test_half_precision_is_compared_as_its_float32_twin(tmp_path, samples, small_model, opened):
    keras.config.set_dtype_policy("mixed_float16")
    model = small_model(samples.images)
    twin = reference_model(opened(model))
    assert model.layers[2].compute_dtype == "float16"
    assert twin.layers[2].compute_dtype == "float32"
    exact, rounded = own_answers(twin, samples.images, None), own_answers(model, samples.images, None)
    assert exact == pytest.approx(rounded, abs=0.1)
    assert not np.array_equal(exact, rounded)


def test_missing_and_unreadable_files_are_refused(tmp_path, opened):
    with pytest.raises(ExportError, match=r"The model file .* does not exist"):
        opened(tmp_path / "missing.keras")
    with pytest.raises(ExportError, match=r"A run folder holds `model.keras`"):
        opened(tmp_path)
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    with pytest.raises(ExportError, match="Keras cannot read"):
        opened(tmp_path / "broken.keras")


def test_python_code_in_a_file_needs_permission(tmp_path, opened):
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Lambda(lambda x: x * 2)])
    model.save(tmp_path / "code.keras")
    with pytest.raises(ExportError, match=r"safe_mode=False"):
        opened(tmp_path / "code.keras")
    assert opened(tmp_path / "code.keras", safe_mode=False).image_size == (4, 4)


def test_preprocess_input_is_known_to_the_converting_process(tmp_path, opened):
    image = keras.Input((4, 4, 3))
    x = layers.Lambda(keras.applications.vgg16.preprocess_input)(image)
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    model.save(tmp_path / "model.keras")
    with pytest.raises(ExportError, match="`--preprocess-input`"):
        opened(tmp_path / "model.keras")
    for source in (opened(model), opened(tmp_path / "model.keras", preprocess_input="VGG16")):
        assert source.preprocess_input == "vgg16"
        read_source(source.file, preprocess_input=source.preprocess_input, safe_mode=True)


def test_a_custom_layer_is_found_by_its_file_and_travels_with_the_model(tmp_path, custom_layers, rich_model, opened):
    rich_model.save(tmp_path / "rich.keras")
    source = opened(tmp_path / "rich.keras", modules=[custom_layers.__file__])
    assert ("export_test_layers", custom_layers.__file__) in source.modules
    assert ("export_test_layers", custom_layers.__file__) in opened(rich_model).modules
    with pytest.raises(ExportError, match="no module `missing_module`"):
        opened(rich_model, modules=["missing_module"])


def test_a_class_of_the_main_module_is_refused(monkeypatch, rich_model, custom_layers, opened):
    monkeypatch.setattr(custom_layers.Gate, "__module__", "__main__")
    with pytest.raises(ExportError, match="`Gate` in `__main__`"):
        opened(rich_model)


def test_other_shapes_are_refused(opened):
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
            opened(model)


def test_a_run_says_the_size_of_a_model_that_takes_any(tmp_path, opened):
    model = keras.Sequential([keras.Input((None, None, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    assert opened(tmp_path).image_size is None
    (tmp_path / "config.json").write_text('{"image_size": [20, 30], "policy": {}, "backbone": null}')
    source = opened(tmp_path)
    assert (source.image_size, source.fixed_size) == ((20, 30), None)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow reads them")
def test_only_tensorflow_reads_a_saved_model(tmp_path, opened):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ExportError, match="KERAS_BACKEND=tensorflow"):
        opened(tmp_path, safe_mode=False)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow alone reads them")
def test_tensorflow_reads_a_saved_model(tmp_path, model, samples, opened):
    model.export(tmp_path / "saved", verbose=False)
    source = opened(tmp_path / "saved", safe_mode=False)
    assert source.image_size == (32, 40)
    expected = own_answers(model, samples.images, None)
    assert own_answers(source.model, samples.images, None) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("disguise", ["", "model.keras"])
def test_a_saved_model_is_a_program_and_needs_permission(tmp_path, opened, disguise):
    run = tmp_path / "run"
    (run / disguise).mkdir(parents=True)
    (run / disguise / "saved_model.pb").write_bytes(b"")
    (run / "config.json").write_text('{"class_names": ["a", "b"]}')
    with pytest.raises(ExportError, match="`--unsafe`"):
        opened(run / disguise)


def test_what_is_converted_is_what_was_opened(tmp_path, opened, model):
    model.save(tmp_path / "model.keras")
    before = (tmp_path / "model.keras").read_bytes()
    source = opened(tmp_path / "model.keras")
    (tmp_path / "model.keras").write_bytes(b"exchanged")
    assert source.file.read_bytes() == before
    assert source.safe_mode
    assert source.sha256 == hashlib.sha256(before).hexdigest()


def test_several_outputs_by_name_are_refused_with_the_line_that_chooses(opened):
    image = keras.Input((4, 4, 3))
    flat = layers.Flatten()(image)
    model = keras.Model(image, {"kind": layers.Dense(2)(flat), "age": layers.Dense(3)(flat)})
    with pytest.raises(ExportError, match=r"model\.output\['kind'\]"):
        opened(model)
    chosen = keras.Model(model.inputs[0], model.output["kind"])
    assert opened(chosen).model is chosen
