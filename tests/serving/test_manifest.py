import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kerasxfer_serving import ImagePolicy
from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.model.manifest import Manifest

SMALL = {"class_names": ["cats", "dogs"], "image_size": [150, 200]}
FULL = Manifest(
    class_names=("chats", "犬", "a\nb"),
    image_size=(150, 200),
    policy=ImagePolicy(interpolation="bicubic", resize="pad", exif="ignore", draft=True),
    output="sigmoid",
    features_name="features",
    precision="int8",
    opset=15,
    backbone="VGG16",
    preprocessing="caffe",
    source_sha256="0" * 64,
    source_backend="jax",
    versions={"keras": "3.15.1"},
    golden={"rgb.png": "1" * 64},
    parity={"fp32": {"max_difference_below": 1e-06}},
    runtimes=({"runtime": "openvino", "precision": "bf16", "passed": True},),
    calibration={"pictures": 256},
)


def test_every_field_survives_json():
    assert Manifest.from_json(FULL.to_json()) == FULL


def test_equal_manifests_give_equal_text():
    again = Manifest.from_json(json.dumps(dict(reversed(FULL.to_dict().items()))))
    assert again.to_json() == FULL.to_json()


def test_two_fields_are_enough():
    manifest = Manifest.from_json(json.dumps(SMALL))
    assert manifest == Manifest(class_names=("cats", "dogs"), image_size=(150, 200))
    assert manifest.policy == ImagePolicy()


@pytest.mark.parametrize("name", ["caf\udce9", "\ud83d", "a\udc00"])
def test_a_class_name_that_is_no_text_is_refused(name):
    with pytest.raises(ModelError, match="Unicode text"):
        Manifest(class_names=(name, "b"), image_size=(8, 8))
    with pytest.raises(ModelError, match="Unicode text"):
        Manifest.from_json(json.dumps({"class_names": [name, "b"], "image_size": [8, 8]}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ["one"]}, "2 to"),
        ({"class_names": ["same", "same"]}, "different names"),
        ({"class_names": ["cats", 3]}, "non-empty strings"),
        ({"class_names": "cats"}, "non-empty strings"),
        ({"image_size": [150]}, "image_size"),
        ({"image_size": [0, 150]}, "image_size"),
        ({"image_size": [150, 1e9]}, "image_size"),
        ({"output": "argmax"}, "`output`"),
        ({"layout": "chwn"}, "`layout`"),
        ({"normalisation": "mine"}, "`normalisation`"),
        ({"precision": "int4"}, "`precision`"),
        ({"opset": "15"}, "`opset`"),
        ({"opset": True}, "`opset`"),
        ({"backbone": 16}, "`backbone`"),
        ({"versions": []}, "`versions`"),
        ({"policy": {"resize": "squash"}}, "`policy`"),
        ({"policy": {"later": 1}}, "`policy`"),
        ({"policy": []}, "`policy`"),
        ({"format_version": 3, "later": 1}, "Update kerasxfer-serving"),
        ({"unknown": 1}, "unknown fields"),
    ],
)
def test_what_the_schema_does_not_allow_is_named(change, message):
    with pytest.raises(ModelError, match=message):
        Manifest.from_json(json.dumps(SMALL | change))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"image_size": [1, 1]}', "[" * 100_000, b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(ModelError):
        Manifest.from_json(text)


def test_an_oversized_manifest_is_refused_before_it_is_parsed():
    with pytest.raises(ModelError, match="at most"):
        Manifest.from_json(" " * (9 << 20))


def test_a_hundred_thousand_classes_fit():
    manifest = Manifest(class_names=tuple(f"class number {number}" for number in range(100_000)), image_size=(8, 8))
    assert Manifest.from_json(manifest.to_json()) == manifest


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(field=st.sampled_from(sorted(FULL.to_dict())), value=JSON)
def test_any_value_of_any_field_is_read_or_refused(field, value):
    try:
        manifest = Manifest.from_json(json.dumps(SMALL | {field: value}))
    except ModelError:
        return
    assert Manifest.from_json(manifest.to_json()).to_json() == manifest.to_json()


def test_read_takes_the_manifest_in_the_file_before_the_sidecar(tmp_path, write_model):
    path = write_model(tmp_path / "model.onnx")
    path.with_name("model.onnx.json").write_text(json.dumps(SMALL))
    assert Manifest.read(path).class_names == ("red", "green", "blue")
    assert Manifest.read(tmp_path / "model.onnx.json").class_names == ("cats", "dogs")


def test_read_takes_the_sidecar_of_a_model_from_elsewhere(tmp_path, write_model):
    path = write_model(tmp_path / "model.onnx", manifest=False)
    with pytest.raises(ModelError, match="has no manifest"):
        Manifest.read(path)
    path.with_name("model.onnx.json").write_text(json.dumps(SMALL))
    assert Manifest.read(path).image_size == (150, 200)
