"""Real conversions, each a TensorFlow process: few models with much in them."""

import hashlib
import importlib.util

import keras
import numpy as np
import onnx
import pytest
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.runtime.opening import open_session
from PIL import Image

from kerasxfer import export_onnx
from kerasxfer.export.answers import own_answers
from kerasxfer.export.errors import ExportArgumentError, ExportError
from kerasxfer.export.outputs import Output
from kerasxfer.export.tf_process import require_converter

layers = keras.layers
CLASSES = ("cats", "dogs", "newts")


def test_the_model_s_answers_differ_between_images(rich_model, samples):
    probabilities = Output("softmax", raw=True).probabilities(own_answers(rich_model, samples.images, None))
    assert np.ptp(probabilities, axis=0).min() > 0.3
    assert len(set(probabilities.argmax(axis=1))) == 3


def test_the_file_gives_the_model_s_answers(exported, rich_model, samples):
    expected = Output("softmax", raw=True).probabilities(own_answers(rich_model, samples.images, None))
    session = open_session(exported.file.path, "cpu")
    for count in (1, 3, 32):
        received, features = session.run(samples.images[:count])
        assert received == pytest.approx(expected[:count], abs=1e-5)
        assert features.shape == (count, 8)
    pooled = keras.Model(rich_model.inputs, rich_model.get_layer("head").input)
    assert features == pytest.approx(own_answers(pooled, samples.images, None), abs=1e-4)


def test_the_graph_is_clean(exported):
    statistics = exported.file.statistics
    operators = statistics["operators"]
    assert statistics["opset"] == 15
    assert (operators["Cast"], operators["Transpose"], operators["Conv"]) == (1, 1, 2)
    assert "BatchNormalization" not in operators
    assert not any(name.startswith("Random") for name in operators)
    assert statistics["nodes"] <= 18
    assert exported.file.inputs == (("images", "uint8", ("batch", 32, 40, 3)),)
    assert exported.file.outputs == (("probabilities", "float", ("batch", 3)), ("features", "float", ("batch", 8)))


def test_the_manifest_says_what_it_is(exported):
    manifest = Manifest.read(exported.file.path)
    assert manifest == exported.manifest
    assert (manifest.class_names, manifest.image_size, manifest.output) == (CLASSES, (32, 40), "softmax")
    assert (manifest.precision, manifest.opset, manifest.features_name) == ("fp32", 15, "features")
    assert manifest.source_backend == keras.backend.backend()
    assert manifest.parity["fp32"]["pictures"] == 32
    assert manifest.parity["fp32"]["max_difference_below"] <= 1e-5
    assert manifest.golden
    assert manifest.versions["keras"] == keras.__version__


def test_two_exports_of_one_model_are_the_same_bytes(exported, rich_model, tmp_path):
    again = export_onnx(rich_model, tmp_path / "again.onnx", class_names=CLASSES, features=True, verbose=False)
    assert again.file.sha256 == exported.file.sha256
    assert hashlib.sha256((tmp_path / "again.onnx").read_bytes()).hexdigest() == exported.file.sha256


def test_the_file_is_plain_onnx(exported, samples):
    """The three lines of the README."""
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.file.path)
    (probabilities,) = session.run(["probabilities"], {"images": samples.images[:2]})
    assert probabilities.sum(axis=1) == pytest.approx([1, 1])


def test_the_file_loads_in_openvino(exported, samples):
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    compiled = openvino.Core().compile_model(exported.file.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = open_session(exported.file.path, "cpu").run(samples.images[:4])[0]
    assert compiled(samples.images[:4])["probabilities"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_a_sigmoid_head_in_half_precision_with_preprocessing_in_front(samples, small_model, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = small_model(samples.images, units=1, activation="sigmoid")
    exported = export_onnx(model, tmp_path / "s.onnx", class_names=("a", "b"), preprocessing="rescale", verbose=False)
    assert exported.manifest.output == "sigmoid"
    assert exported.manifest.preprocessing == "rescale"
    assert exported.file.outputs == (("probabilities", "float", ("batch", 1)),)
    assert not any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in exported.file.proto.graph.initializer)
    assert any("half precision" in note for note in exported.notes)


def test_a_conversion_that_goes_wrong_leaves_no_file_and_tells_where(samples, small_model, custom_layers, tmp_path):
    model = small_model(samples.images, [custom_layers.Drifting()])
    try:
        custom_layers.SHIFT = 0.5  # this process adds it, the converting one does not
        with pytest.raises(ExportError, match=r"`probabilities` differs by .*`drawn image \d+`.*the file"):
            export_onnx(model, tmp_path / "model.onnx", class_names=CLASSES, verbose=False)
    finally:
        custom_layers.SHIFT = 0.0
    assert list(tmp_path.iterdir()) == []


def test_a_grouped_convolution_stays_one_operator(samples, small_model, tmp_path):
    """ConvNeXt's and MobileNets of KerasHub: on a CPU Keras compiles these with XLA, in a call that ONNX lacks."""
    model = small_model(samples.images, [keras.layers.Conv2D(16, 3, groups=4, activation="relu")], activation="softmax")
    exported = export_onnx(model, tmp_path / "model.onnx", verbose=False)
    assert exported.parity["fp32"].max_difference <= 1e-5
    assert exported.file.statistics["operators"]["Conv"] == 2


@pytest.mark.parametrize("saved", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_subclassed_model_that_was_called(saved, custom_layers, samples, tmp_path):
    model = custom_layers.Subclassed()
    expected = keras.ops.convert_to_numpy(model(samples.images.astype("float32")))
    assert np.ptp(expected, axis=0).max() > 0.1
    source = model
    if saved:
        source = tmp_path / "model.keras"
        model.save(source)
    exported = export_onnx(source, tmp_path / "model.onnx", modules=[custom_layers.__file__], verbose=False)
    assert exported.manifest.image_size == samples.images.shape[1:3]
    assert exported.parity["fp32"].spread > 0.1


def test_a_subclassed_model_without_weights_is_refused(custom_layers, tmp_path):
    model = custom_layers.Subclassed()
    with pytest.raises(ExportError, match="Call it once on a batch of images"):
        export_onnx(model, tmp_path / "model.onnx", verbose=False)
    model.build((None, 8, 8, 3))
    with pytest.raises(ExportError, match="never built"):
        export_onnx(model, tmp_path / "model.onnx", verbose=False)


def test_missing_packages_are_named_with_the_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else find(name))
    with pytest.raises(ExportError, match=r'Missing: tf2onnx\. .*"kerasxfer\[export\]"'):
        require_converter()


@pytest.mark.slow
def test_an_operator_that_onnx_lacks_is_told_without_a_file(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.ops.erfinv(layers.Rescaling(1 / 256)(image))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    with pytest.raises(ExportError, match=r"does not run.*Erfinv"):
        export_onnx(model, tmp_path / "model.onnx", class_names=("a", "b"), verbose=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int4"}, "`precision`"),
        ({"precision": "int8"}, "`calibration="),
        ({"target": "tpu"}, "`target`"),
        ({"opset": 12}, "`opset`"),
        ({"opset": 19}, "`opset`"),
        ({"output": "argmax"}, "`output`"),
        ({"preprocessing": "alexnet"}, "`preprocessing`"),
    ],
)
def test_arguments_out_of_range_are_refused_at_once(rich_model, tmp_path, arguments, message):
    with pytest.raises(ExportArgumentError, match=message) as raised:
        export_onnx(rich_model, tmp_path / "model.onnx", verbose=False, **arguments)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ("one", "two")}, "must have 3 names"),
        ({"image_size": (64, 64)}, r"must be the model's, \(32, 40\)"),
        ({"samples": "missing"}, "missing` does not exist"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_it_is_converted(rich_model, tmp_path, arguments, message):
    with pytest.raises(ExportError, match=message):
        export_onnx(rich_model, tmp_path / "model.onnx", verbose=False, **arguments)


def test_a_model_that_takes_any_size_needs_one(tmp_path):
    model = keras.Sequential([keras.Input((None, None, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2)])
    with pytest.raises(ExportError, match="`image_size` is needed"):
        export_onnx(model, tmp_path / "model.onnx", verbose=False)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_scores_become_what_they_are_said_to_be(rich_model, samples, tmp_path, activation):
    exported = export_onnx(rich_model, tmp_path / "m.onnx", output=activation, verbose=False)
    scores = own_answers(rich_model, samples.images, None)
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = expected if activation == "softmax" else 1 / (1 + np.exp(-scores))
    assert exported.manifest.output == activation
    assert open_session(exported.file.path, "cpu").run(samples.images)[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("where", ["in memory", pytest.param("in a file", marks=pytest.mark.slow)])
def test_scores_of_classes_that_do_not_exclude_each_other_get_a_sigmoid(samples, small_model, tmp_path, where):
    model = small_model(samples.images)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    source = model
    if where == "in a file":
        source = tmp_path / "model.keras"
        model.save(source)
    exported = export_onnx(source, tmp_path / "model.onnx", class_names=CLASSES, verbose=False)
    expected = 1 / (1 + np.exp(-own_answers(model, samples.images, None)))
    assert open_session(exported.file.path, "cpu").run(samples.images)[0] == pytest.approx(expected, abs=1e-5)
    assert any("by the loss it was compiled with" in note for note in exported.notes)


def test_a_greyscale_model_is_exported_on_colour_images(samples, tmp_path):
    drawn = keras.initializers.RandomNormal(0, 0.1, seed=1)
    head = [layers.Flatten(), layers.Dense(3, "softmax", kernel_initializer=drawn)]
    model = keras.Sequential([keras.Input((32, 40, 1)), layers.Rescaling(1 / 127.5, -1), *head])
    exported = export_onnx(model, tmp_path / "model.onnx", class_names=CLASSES, verbose=False)
    assert exported.parity["fp32"].spread > 0.1
    assert exported.file.inputs == (("images", "uint8", ("batch", 32, 40, 3)),)


@pytest.fixture(scope="module")
def flat_folder(samples, tmp_path_factory):
    """Images without class folders."""
    root = tmp_path_factory.mktemp("flat")
    for number, image in enumerate(samples.images):
        Image.fromarray(image).save(root / f"{number}.png")
    return root


def test_int8_is_calibrated_on_images_without_labels(rich_model, flat_folder, tmp_path):
    out = tmp_path / "model.onnx"
    exported = export_onnx(rich_model, out, precision="int8", calibration=flat_folder, verbose=False)
    assert exported.file.statistics["operators"]["QuantizeLinear"] > 0
    assert exported.check.source_accuracy is None
    assert exported.check.same_top_class >= 0.95
    assert any("no accuracy was measured" in note for note in exported.notes)


@pytest.mark.slow
def test_int8_of_another_folder_s_classes_is_calibrated_without_its_labels(rich_model, class_folders, tmp_path):
    names = ("one", "two", "three")
    out = tmp_path / "model.onnx"
    exported = export_onnx(
        rich_model, out, precision="int8", calibration=class_folders, class_names=names, verbose=False
    )
    assert (exported.manifest.class_names, exported.check.source_accuracy) == (names, None)


def test_a_check_without_labels_is_refused_before_the_conversion(rich_model, flat_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("kerasxfer.export.pipeline.convert", lambda *_: pytest.fail("converted"))
    with pytest.raises(ExportError, match="cannot be checked on"):
        export_onnx(rich_model, tmp_path / "model.onnx", check=flat_folder, verbose=False)


def test_the_target_gpu_means_fp16_where_it_gives_the_answers(rich_model, samples, tmp_path):
    exported = export_onnx(rich_model, tmp_path / "model.onnx", target="gpu", class_names=CLASSES, verbose=False)
    assert exported.manifest.precision == "fp16"
    assert set(exported.parity) == {"fp32", "fp16"}
    assert [note for note in exported.notes if "fp16" in note] == [
        "The file computes in fp16 because the target is a GPU: use `precision='fp32'` for full precision."
    ]


def test_where_fp16_does_not_give_the_answers_the_file_for_a_gpu_is_fp32(samples, small_model, tmp_path):
    model = small_model(samples.images, [layers.Rescaling(1e7), layers.ReLU(), layers.Rescaling(1e-7)])  # beyond 65,504
    exported = export_onnx(model, tmp_path / "model.onnx", target="gpu", class_names=CLASSES, verbose=False)
    assert exported.manifest.precision == "fp32"
    assert set(exported.parity) == {"fp32"}
    assert any("fp16 was tried" in note for note in exported.notes)
    with pytest.raises(ExportError, match="fp16 file does not give the model's answers"):
        export_onnx(model, tmp_path / "half.onnx", precision="fp16", class_names=CLASSES, verbose=False)
