"""The server with its models in OpenVINO."""

import pytest
from kerasxfer_serving.server.options import ServerOptions


@pytest.fixture(scope="module")
def server(net, run_server):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    with run_server({"net": net}, ServerOptions(device="openvino")) as server:
        yield server


def test_says_what_runs_a_model(server):
    config = server.get("/v2/models/net/config").json()
    assert (config["platform"], config["backend"]) == ("openvino_onnx", "openvino")
    assert config["parameters"]["device"] == {"string_value": "openvino"}
    assert server.get("/v2/models/net").json()["platform"] == "openvino_onnx"


def test_answers_as_onnx_runtime_does(server, net, images):
    from kerasxfer_serving import Predictor

    with Predictor(net, device="cpu") as predictor:
        expected = predictor.predict(images[:3])
    for number, image in enumerate(images[:3]):
        (answer,) = server.post("/predict", image).json()["predictions"]
        assert answer["label"] == expected.labels[number]
        assert answer["probability"] == pytest.approx(expected.probabilities[number].max(), abs=1e-5)
