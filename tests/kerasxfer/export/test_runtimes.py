"""A file in several runtimes: a row for each and its precisions, kept in the manifest."""

import sys

import pytest
from kerasxfer_serving.errors import DeviceError
from kerasxfer_serving.runtime import fastest
from kerasxfer_serving.runtime.openvino_session import has_bf16
from serving_command import command

from kerasxfer import export_onnx
from kerasxfer.estimate import Estimate
from kerasxfer.export import runtimes as checking
from kerasxfer.export.check import check_file
from kerasxfer.export.parity import Parity
from kerasxfer.export.runtimes import RuntimeCheck, notes


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(checking, "_SECONDS", 0.05)
    monkeypatch.setattr(fastest, "SECONDS", 0.05)


@pytest.fixture(scope="module")
def in_runtimes(rich_model, class_folders, tmp_path_factory):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    path = tmp_path_factory.mktemp("runtimes") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "_SECONDS", 0.05)
        return export_onnx(rich_model, path, check=class_folders, runtimes=["onnxruntime", "openvino"], verbose=False)


def test_a_row_for_each_runtime_and_precision(in_runtimes):
    expected = [("onnxruntime", "f32"), ("openvino", "f32"), *[("openvino", "bf16")] * has_bf16()]
    assert [(check.runtime, check.precision) for check in in_runtimes.runtimes] == expected
    for check in in_runtimes.runtimes:
        assert check.failure is None
        assert check.images_per_second > 0
        assert check.parity.pictures == 32
        assert check.parity.file_accuracy.value >= 0.99
        assert check.parity.max_difference < {"f32": 1e-4, "bf16": 0.2}[check.precision]
    for exact in in_runtimes.runtimes[:2]:
        assert exact.parity.same_top_class == 1.0


def test_the_manifest_keeps_the_rows(in_runtimes):
    manifest = in_runtimes.manifest
    assert [row["runtime"] for row in manifest.runtimes] == [check.runtime for check in in_runtimes.runtimes]
    assert manifest.passed_in("openvino", "f32")
    assert manifest.passed_in("openvino", "bf16") == has_bf16()
    assert not manifest.passed_in("onnxruntime", "bf16")


@pytest.mark.skipif(not has_bf16(), reason="OpenVINO or this CPU has no bfloat16")
def test_a_precision_that_passed_is_what_openvino_computes_in(in_runtimes, class_folders):
    done = command("predict", in_runtimes.file.path, class_folders, "--device", "openvino")
    assert done.status == 0, done.stderr
    assert "bf16" in done.stderr


def test_an_int8_file_is_measured_against_the_fp32_one(rich_model, class_folders, tmp_path):
    exported = export_onnx(
        rich_model,
        tmp_path / "int8.onnx",
        precision="int8",
        calibration=class_folders,
        runtimes=["onnxruntime"],
        verbose=False,
    )
    (check,) = exported.runtimes
    assert check.times_fp32 > 0
    assert any("slower than the fp32 one" in note for note in exported.notes) == (check.times_fp32 < 1)
    assert "times_fp32" in exported.manifest.runtimes[0]


def test_check_shows_every_precision_of_the_device(exported, rich_model, class_folders):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    result = check_file(exported.file.path, rich_model, class_folders, device="openvino")
    assert result.device == "openvino"
    assert result.failure is None
    assert result.parity.max_difference <= 1e-5
    assert [check.precision for check in result.runtimes] == ["f32", *["bf16"] * has_bf16()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtimes": ["tflite"], "check": "data"}, r"`runtimes` must be of .*openvino.*Received: \['tflite'\]"),
        ({"runtimes": ["onnxruntime"]}, "`runtimes` are checked on labelled images: give `check=`"),
    ],
    ids=["unknown", "unlabelled"],
)
def test_what_cannot_be_checked_is_refused(rich_model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(rich_model, tmp_path / "m.onnx", verbose=False, **options)


def test_a_runtime_that_is_not_there_is_named(rich_model, class_folders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(checking, "has_bf16", lambda: False)
    with pytest.raises(DeviceError, match=r"kerasxfer-serving\[openvino\]"):
        export_onnx(rich_model, tmp_path / "m.onnx", check=class_folders, runtimes=["openvino"], verbose=False)
    assert not list(tmp_path.iterdir())


def test_what_is_slower_or_wrong_is_told():
    accuracy = Estimate.of_share(90, 100)
    parity = Parity(100, 0.1, 0.01, 0.99, 0.9, (), accuracy, accuracy)
    slow = RuntimeCheck("onnxruntime", "cpu", "f32", parity, None, 50.0, times_fp32=0.5)
    fast = RuntimeCheck("openvino", "openvino", "f32", parity, None, 300.0, times_fp32=3.0)
    wrong = RuntimeCheck("openvino", "openvino", "bf16", parity, "Accuracy falls.", 300.0)
    assert list(notes([slow, fast, wrong], "int8")) == [
        "In onnxruntime f32 the int8 file is slower than the fp32 one on this machine, by a factor of 2.0: serve fp32 "
        "there.",
        "In openvino bf16 the file does not pass the gate. Accuracy falls.",
    ]
