import threading

import numpy as np
import onnxruntime
import pytest
from kerasxfer_serving.errors import DeviceError, ModelError
from kerasxfer_serving.runtime import onnxruntime_session as sessions
from kerasxfer_serving.runtime.opening import open_session
from kerasxfer_serving.runtime.resources import cuda_devices

needs_no_gpu = pytest.mark.skipif(cuda_devices() > 0, reason="there is a GPU")


def colours(count, size=(8, 10)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def expected(images):
    scores = images.astype(np.float64).mean(axis=(1, 2)) / 255 * 8
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def test_runs_the_model_on_the_cpu(model):
    session = open_session(model, "cpu", threads=1)
    (probabilities,) = session.run(colours(5))
    np.testing.assert_allclose(probabilities, expected(colours(5)), atol=1e-6)


def test_describes_where_it_runs(model):
    report = open_session(model, "cpu", threads=2).describe()
    assert report["device"] == "cpu"
    assert report["threads"] == 2
    assert report["tf32"] is None
    assert set(report["placement"]) == {"CPUExecutionProvider"}
    assert report["placement"]["CPUExecutionProvider"] >= 3


@needs_no_gpu
def test_auto_says_why_it_took_the_cpu(model):
    session = open_session(model, "auto")
    assert session.device == "cpu"
    assert session.reason.startswith("no CUDA: ")


@needs_no_gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_cannot_be_had_is_an_error_with_the_remedy(model, device):
    with pytest.raises(DeviceError, match=f"`device='{device}'` is not available.*(pip install|nvidia-smi)"):
        open_session(model, device)


@needs_no_gpu
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_an_error(model, monkeypatch):
    """As on a machine with a GPU whose CUDA libraries are missing: ONNX Runtime then falls back by itself."""
    monkeypatch.setattr(sessions, "require_device", lambda device, gpu_id: None)
    with pytest.raises(DeviceError, match="cannot start it"):
        open_session(model, "cuda")
    session = open_session(model, "auto")
    assert session.device == "cpu"
    assert "cannot start it" in session.reason


def test_an_unknown_gpu_is_named(model, monkeypatch):
    monkeypatch.setattr(sessions, "cuda_devices", lambda: 2)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(DeviceError, match=r"0 to 1.*gpu_id=2"):
        open_session(model, "cuda", gpu_id=2)


def test_unknown_devices_are_refused(model):
    with pytest.raises(ValueError, match="tpu"):
        open_session(model, "tpu")


def test_tensorrt_has_no_tf32_switch(model):
    with pytest.raises(ValueError, match="NVIDIA_TF32_OVERRIDE"):
        open_session(model, "tensorrt", tf32=False)


def test_a_fixed_batch_is_padded_and_cut_up(tmp_path, write_model):
    session = open_session(write_model(tmp_path / "fixed.onnx", batch=4), "cpu")
    assert session.fixed_batch == 4
    for count in (1, 4, 5, 11):
        (probabilities,) = session.run(colours(count))
        np.testing.assert_allclose(probabilities, expected(colours(count)), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float", "float16"])
def test_pixels_are_cast_to_what_the_graph_takes(tmp_path, write_model, dtype):
    session = open_session(write_model(tmp_path / "cast.onnx", dtype=dtype), "cpu")
    np.testing.assert_allclose(session.run(colours(3))[0], expected(colours(3)), atol=1e-6)


def test_bound_data_can_be_run_again_and_again(model):
    run = open_session(model, "cpu").bind(colours(2))
    for _ in range(3):
        run()


def test_many_threads_share_a_session(model):
    session = open_session(model, "cpu", threads=1)
    answers = {}

    def work(seed):
        images = np.random.default_rng(seed).integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)
        answers[seed] = all(np.allclose(session.run(images)[0], expected(images), atol=1e-6) for _ in range(50))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(range(8), True)


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError):
        open_session(tmp_path / "bad.onnx", "cpu")
    with pytest.raises(ModelError, match="cannot load"):
        open_session(b"no model", "cpu")


def test_the_onnx_that_was_checked_runs_whatever_else_the_bytes_pass_for(model):
    """ONNX Runtime takes a file with these bytes for its own format, unless told; to ONNX it is a stray field."""
    stray_field = b"\xa2\x06\x84\x00ORTM"
    session = open_session(stray_field + model.read_bytes(), "cpu")
    (probabilities,) = session.run(colours(2))
    np.testing.assert_allclose(probabilities, expected(colours(2)), atol=1e-6)
