"""A model with several labels to an image, over every protocol."""

import base64
import io

import pytest
from kerasxfer_serving.model.manifest import Manifest
from PIL import Image

NAMES = ("red", "green", "blue")
MULTI = Manifest(
    class_names=NAMES, image_size=(8, 10), output="sigmoid", task="multi_label", thresholds=(0.5, 0.9, 0.5)
)


def png(*colour):
    file = io.BytesIO()
    Image.new("RGB", (10, 8), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory, write_multi_label_model, run_server, net):
    path = write_multi_label_model(tmp_path_factory.mktemp("model") / "channels.onnx", MULTI)
    with run_server({"channels": path, "net": net}) as running:
        yield running


def test_predict_answers_with_the_labels_and_every_score(server):
    answer = server.post("/predict/channels", png(255, 191, 0)).json()
    assert (answer["task"], answer["thresholds"]) == ("multi_label", [0.5, 0.9, 0.5])
    (row,) = answer["predictions"]
    assert row["labels"] == ["red"]
    assert row["probabilities"] == pytest.approx([0.982, 0.879, 0.018], abs=1e-3)
    assert server.post("/predict/channels", png(0, 0, 0)).json()["predictions"][0]["labels"] == []


def test_a_model_of_one_label_answers_as_before(server):
    answer = server.post("/predict/net", png(1, 2, 3)).json()
    assert answer["task"] == "single_label"
    assert "thresholds" not in answer
    assert "labels" not in answer["predictions"][0]


def test_the_open_inference_protocol_has_the_labels_as_one_text(server):
    images = [png(255, 255, 0), png(0, 0, 0)]
    entry = {"name": "images", "datatype": "BYTES", "shape": [2]}
    entry["data"] = [base64.b64encode(image).decode() for image in images]
    answer = server.post("/v2/models/channels/infer", json={"inputs": [entry]}).json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["labels"]["data"] == ["red|green", ""]
    assert outputs["probabilities"]["shape"] == [2, 3]
    described = server.get("/v2/models/channels").json()["outputs"]
    assert [output["name"] for output in described] == ["probabilities", "label", "labels"]
    parameters = server.get("/v2/models/channels/config").json()["parameters"]
    assert parameters["task"]["string_value"] == "multi_label"
    assert parameters["thresholds"]["string_value"] == "[0.5,0.9,0.5]"


def test_a_model_of_one_label_has_no_such_output(server):
    entry = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(png(0, 0, 0)).decode()]}
    answer = server.post("/v2/models/net/infer", json={"inputs": [entry], "outputs": [{"name": "labels"}]})
    assert answer.status_code == 400
    assert "labels" in answer.json()["error"]
