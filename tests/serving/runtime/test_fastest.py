"""`device="fastest"`: what is installed is tried, and what was taken is kept."""

import json

import numpy as np
import pytest
from kerasxfer_serving import Predictor
from kerasxfer_serving.errors import DeviceError, ModelError
from kerasxfer_serving.runtime import fastest
from kerasxfer_serving.runtime.onnxruntime_session import OnnxRuntimeSession
from kerasxfer_serving.runtime.opening import open_session
from serving_command import command


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(fastest, "SECONDS", 0.05)


def test_tries_what_is_here_and_says_what_it_found(model):
    session = open_session(model, "fastest", threads=1)
    assert session.reason.startswith("images/s: cpu ")
    assert session.run(np.zeros((3, 8, 10, 3), np.uint8))[0].shape == (3, 3)


def test_takes_the_fastest(model, monkeypatch):
    """Rates are given by hand: on a machine that others use, a measured order is no fact."""
    pytest.importorskip("openvino")
    for rates, taken in (({"cpu": 100.0, "openvino": 300.0}, "openvino"), ({"cpu": 200.0, "openvino": 100.0}, "cpu")):
        monkeypatch.setattr(fastest, "images_per_second", lambda session, *_, rates=rates: rates[session.device])
        with Predictor(model, device="fastest") as predictor:
            assert predictor.device == taken
            assert predictor.reason == f"images/s: cpu {rates['cpu']:.0f}, openvino {rates['openvino']:.0f}"
            assert predictor.predict(np.zeros((12, 8, 10, 3), np.uint8)).status == ["ok"] * 12


def test_a_device_that_fails_is_left_out(model, monkeypatch):
    pytest.importorskip("openvino")

    def fail(*_):
        raise ModelError("It cannot be loaded. And more.")

    monkeypatch.setattr(fastest, "OpenVinoSession", fail)
    session = open_session(model, "fastest")
    assert session.device == "cpu"
    assert session.reason.endswith("openvino failed: It cannot be loaded")


def test_no_device_at_all_is_an_error(tmp_path):
    with pytest.raises(DeviceError, match=r"runs on none of the devices of this machine\. cpu failed: "):
        open_session(b"no model", "fastest")


def test_a_model_that_fails_under_way_is_left_out(model, monkeypatch):
    def fail(self, images):
        raise ModelError("It broke.")

    monkeypatch.setattr(OnnxRuntimeSession, "run", fail)
    monkeypatch.setattr(fastest, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="cpu failed: It broke"):
        open_session(model, "fastest")


def test_a_run_keeps_to_what_it_took(model, draw_colours, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    inputs = [*draw_colours(tmp_path / "images", 12), tmp_path / "none.jpg"]
    options = ["--batch-size", "4", "--part-rows", "4", "-o", tmp_path / "out.csv", "--device", "fastest"]
    monkeypatch.setattr(fastest, "images_per_second", lambda session, *_: float(session.device == "openvino"))
    begun = command("predict", model, *inputs, *options, "--fail-fast")
    assert begun.status == 1
    assert "Device openvino (fastest: images/s: cpu 0, openvino 1); " in begun.stderr
    monkeypatch.setattr(fastest, "images_per_second", lambda session, *_: float(session.device == "cpu"))
    resumed = command("predict", model, *inputs, *options, "--resume", "--ignore-errors")
    assert resumed.status == 0, resumed.stderr
    assert "Device openvino; " in resumed.stderr
    journal = (tmp_path / "out.csv.run.jsonl").read_text().splitlines()[0]
    assert json.loads(journal)["run"]["device"] == "openvino"
