import base64
import io

import numpy as np
import pytest
from kerasxfer_serving.outputs.predictions import columns
from kerasxfer_serving.predictor import Predictor
from PIL import Image


@pytest.fixture(scope="module")
def expected(model, images):
    """What `Predictor.predict` says of the images."""
    with Predictor(model) as predictor:
        return predictor.predict(images)


@pytest.fixture(scope="module")
def expected_of_net(net, images):
    with Predictor(net) as predictor:
        return predictor.predict(images)


def test_raw_body_is_answered_as_predict_does(server, images, expected_of_net):
    for image, row in zip(images, expected_of_net.rows(3, all_probabilities=True), strict=True):
        answer = server.post("/predict/net?top_k=3", image).json()
        assert answer["predictions"] == [row | {"path": "[0]"}]
        assert answer["class_names"] == ["first", "second", "third"]


def test_row_has_the_columns_of_predict(server, images):
    (row,) = server.post("/predict", images[0]).json()["predictions"]
    assert set(row) == set(columns(["red", "green", "blue"], all_probabilities=True))


def test_form_with_several_images_has_a_row_each_with_their_names(server, images, expected):
    files = [("file", (f"{index}.png", image)) for index, image in enumerate(images)]
    files.insert(3, ("file", ("brüken.png", b"no image")))
    rows = server.post("/predict", files=files).json()["predictions"]
    assert [row["path"] for row in rows[:4]] == ["0.png", "1.png", "2.png", "brüken.png"]
    assert rows[3]["status"] == "not_an_image"
    assert [row["label"] for row in rows if row["status"] == "ok"] == expected.labels


@pytest.mark.parametrize("spelling", [str, lambda text: f"data:image/png;base64,{text}", lambda text: text.rstrip("=")])
def test_json_with_base64(server, images, expected, spelling):
    texts = [spelling(base64.b64encode(image).decode()) for image in images]
    rows = server.post("/predict", json={"images": texts}).json()["predictions"]
    assert [row["label"] for row in rows] == expected.labels


def test_json_takes_url_safe_base64_in_lines(server, images, expected):
    text = base64.encodebytes(images[0]).decode().replace("+", "-").replace("/", "_")
    assert server.post("/predict", json={"images": [text]}).json()["predictions"][0]["label"] == expected.labels[0]


@pytest.mark.parametrize(
    ("name", "code"),
    [("empty.jpg", "empty"), ("text.jpg", "not_an_image"), ("truncated.jpg", "truncated")],
)
def test_single_bad_image_is_a_400_with_its_code(server, name, code):
    bad = {"text.jpg": b"hello", "truncated.jpg": _jpeg()[:300], "empty.jpg": b""}[name]
    answer = server.post("/predict", files={"file": (name, bad)})
    assert answer.status_code == 400
    assert answer.json()["predictions"][0]["status"] == code
    assert answer.json()["error"].startswith(code)


@pytest.mark.parametrize("body", [{"images": []}, {"images": [1]}, {"images": ["%%"]}, {}, [], None])
def test_json_of_another_form_is_a_400(server, body):
    answer = server.post("/predict", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_empty_body_is_a_400(server):
    answer = server.post("/predict")
    assert answer.status_code == 400
    assert "No image was sent" in answer.json()["error"]


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_broken_form_is_a_400(server, content_type):
    answer = server.post("/predict", b"--y\r\nrubbish", headers={"Content-Type": content_type})
    assert answer.status_code == 400


@pytest.mark.parametrize("top_k", ["0", "-1", "x", "²", "99999999999"])
def test_top_k_is_checked(server, images, top_k):
    assert server.post(f"/predict?top_k={top_k}", images[0]).status_code == 400


def test_unknown_model_names_those_that_are_served(server, images):
    answer = server.post("/predict?model=nope", images[0])
    assert answer.status_code == 404
    assert "colours" in answer.json()["error"]


def test_probabilities_over_json_are_predicts_to_the_bit(server, images, expected_of_net):
    body = {"instances": [{"b64": base64.b64encode(image).decode()} for image in images]}
    answer = server.post("/v1/models/net:predict", json=body).json()
    np.testing.assert_array_equal(np.array(answer["predictions"], np.float32), expected_of_net.probabilities)


def _jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")).save(buffer, "JPEG")
    return buffer.getvalue()
