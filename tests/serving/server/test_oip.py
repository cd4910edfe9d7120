import base64
import gzip
import json
import struct
import zlib

import numpy as np
import pytest
from kerasxfer_serving.predictor import Predictor

URL = "/v2/models/net/infer"


@pytest.fixture(scope="module")
def expected(net, images):
    with Predictor(net) as predictor:
        return predictor.predict(images)


def _entry(images, **more):
    data = [base64.b64encode(image).decode() for image in images]
    return {"name": "images", "datatype": "BYTES", "shape": [len(images)], "data": data} | more


def _binary(elements, *, asked=None, shape=None):
    """A body with binary data, and its header."""
    blob = b"".join(struct.pack("<I", len(element)) + element for element in elements)
    entry = {"name": "images", "datatype": "BYTES", "shape": shape or [len(elements)]}
    entry["parameters"] = {"binary_data_size": len(blob)}
    head = json.dumps({"inputs": [entry], **(asked or {})}).encode()
    return head + blob, {"Inference-Header-Content-Length": str(len(head))}


def _outputs(answer):
    """Outputs by name, whether binary or JSON."""
    length = answer.headers.get("Inference-Header-Content-Length")
    head = json.loads(answer.content[: int(length)] if length else answer.content)
    position = int(length or 0)
    found = {}
    for output in head["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = np.array(output["data"]).reshape(output["shape"])
        elif output["datatype"] == "FP32":
            found[output["name"]] = np.frombuffer(answer.content[position : position + size], "<f4").reshape(
                output["shape"]
            )
        else:
            found[output["name"]] = _strings(answer.content[position : position + size])
        position += size or 0
    assert position == (len(answer.content) if length else 0)
    return found


def _strings(data):
    found = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return found


def test_json_in_and_out_is_predict_to_the_bit(server, images, expected):
    answer = server.post(URL, json={"id": "seven", "inputs": [_entry(images)]})
    assert answer.json()["id"] == "seven"
    assert (answer.json()["model_name"], answer.json()["model_version"]) == ("net", "1")
    np.testing.assert_array_equal(_outputs(answer)["probabilities"].astype(np.float32), expected.probabilities)
    assert _outputs(answer)["label"].tolist() == expected.labels


def test_binary_in_and_out_is_predict_to_the_bit(server, images, expected):
    body, headers = _binary(images, asked={"parameters": {"binary_data_output": True}})
    found = _outputs(server.post(URL, body, headers=headers))
    np.testing.assert_array_equal(found["probabilities"], expected.probabilities)
    assert found["label"] == expected.labels


def test_each_output_is_binary_as_it_is_asked_for(server, images, expected):
    outputs = [
        {"name": "label", "parameters": {"binary_data": False}},
        {"name": "probabilities", "parameters": {"binary_data": True}},
    ]
    body, headers = _binary(images, asked={"outputs": outputs})
    found = _outputs(server.post(URL, body, headers=headers))
    assert list(found) == ["label", "probabilities"]
    np.testing.assert_array_equal(found["probabilities"], expected.probabilities)
    assert found["label"].tolist() == expected.labels


@pytest.mark.parametrize("shape", [[12, 1], [1, 12]])
def test_strings_may_have_further_dimensions(server, images, expected, shape):
    data = np.array([base64.b64encode(image).decode() for image in images]).reshape(shape).tolist()
    answer = server.post(URL, json={"inputs": [_entry(images, shape=shape, data=data)]})
    assert _outputs(answer)["label"].tolist() == expected.labels


def test_base64_inside_binary_elements(server, images, expected):
    body, headers = _binary([base64.b64encode(image) for image in images])
    assert _outputs(server.post(URL, body, headers=headers))["label"].tolist() == expected.labels


def test_pixels_are_answered_as_arrays_are_by_predict(server, net):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 60, 70, 3), "uint8")
    with Predictor(net) as predictor:
        expected = predictor.predict(pixels)
    for data in (pixels.tolist(), pixels.ravel().tolist()):
        entry = {"name": "images", "datatype": "UINT8", "shape": list(pixels.shape), "data": data}
        found = _outputs(server.post(URL, json={"inputs": [entry]}))
        np.testing.assert_array_equal(found["probabilities"].astype(np.float32), expected.probabilities)


def test_classification_names_the_best(server, images, expected):
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    (output,) = server.post(URL, json={"inputs": [_entry(images)], "outputs": outputs}).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [12, 2])
    best = [text.split(":") for text in output["data"][::2]]
    assert [name for _, _, name in best] == expected.labels
    assert float(best[0][0]) == pytest.approx(expected.probabilities[0].max(), abs=1e-6)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_packed_bodies(server, images, expected, encoding, pack):
    body, headers = _binary(images)
    answer = server.post(URL, pack(body), headers=headers | {"Content-Encoding": encoding})
    assert _outputs(answer)["label"].tolist() == expected.labels


def test_deflate_without_its_wrapping(server, images, expected):
    body, headers = _binary(images)
    packer = zlib.compressobj(wbits=-15)
    answer = server.post(URL, packer.compress(body) + packer.flush(), headers=headers | {"Content-Encoding": "deflate"})
    assert _outputs(answer)["label"].tolist() == expected.labels


def test_one_bad_image_fails_the_request_by_its_number(server, images):
    answer = server.post(URL, json={"inputs": [_entry([images[0], b"no image"])]})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("images[1]: not_an_image")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"datatype": "FP32"},
        {"datatype": "UINT8"},
        {"shape": [2]},
        {"shape": [-1]},
        {"shape": [0], "data": []},
        {"shape": [0], "data": [], "datatype": "UINT8"},
        {"data": None},
        {"data": [None]},
        {"data": ["%%"]},
        {"data": "x"},
        {"data": {}},
        {"parameters": {"binary_data_size": 5}},
        {"parameters": {"binary_data_size": "x"}},
        {"datatype": "UINT8", "data": [[1, 2], [3]], "shape": [1, 1, 1, 3]},
        {"datatype": "UINT8", "data": [256, 0, 0], "shape": [1, 1, 1, 3]},
        {"datatype": "UINT8", "data": [-1, 0, 0], "shape": [1, 1, 1, 3]},
        {"datatype": "UINT8", "data": [0.5, 0, 0], "shape": [1, 1, 1, 3]},
        {"datatype": "UINT8", "data": [None, 0, 0], "shape": [1, 1, 1, 3]},
        {"datatype": "UINT8", "data": [10**40, 0, 0], "shape": [1, 1, 1, 3]},
        {"datatype": "UINT8", "data": [0, 0, 0], "shape": [0, 1, 1, 3]},
        {"datatype": "UINT8", "data": [0, 0, 0, 0], "shape": [1, 1, 1, 4]},
    ],
    ids=str,
)
def test_wrong_inputs_are_named(server, images, change):
    answer = server.post(URL, json={"inputs": [_entry(images[:1]) | change]})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"inputs": [[null, null]]}',
        b'{"inputs": []}',
        b'{"inputs": null}',
        b"[" * 100_000,
        b'{"inputs": [{"name": "images", "datatype": "BYTES", "shape": [1e99], "data": [""]}]}',
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_wrong_bodies_are_named(server, body):
    answer = server.post(URL, body)
    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize("header", ["", "x", "-1", "99999999", "1e3", "٣", "9" * 40])
def test_wrong_header_lengths_are_named(server, images, header):
    body, _ = _binary(images[:1])
    answer = server.post(URL, body, headers={"Inference-Header-Content-Length": header.encode()})
    assert answer.status_code == 400


@pytest.mark.parametrize("tail", [b"\x01", b"\x09\x00\x00\x00ab", b"\xff\xff\xff\xff"])
def test_binary_elements_that_end_early(server, tail):
    entry = {"name": "images", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(tail)}}
    head = json.dumps({"inputs": [entry]}).encode()
    answer = server.post(URL, head + tail, headers={"Inference-Header-Content-Length": str(len(head))})
    assert answer.status_code == 400
    assert "ends inside" in answer.json()["error"]


def test_unknown_outputs_models_and_versions(server, images):
    answer = server.post(URL, json={"inputs": [_entry(images[:1])], "outputs": [{"name": "logits"}]})
    assert answer.status_code == 400
    assert "probabilities" in answer.json()["error"]
    assert server.post("/v2/models/nope/infer", json={"inputs": [_entry(images[:1])]}).status_code == 404
    assert server.post("/v2/models/net/versions/9/infer", json={"inputs": [_entry(images[:1])]}).status_code == 404


def test_metadata_health_and_repository(server):
    assert server.get("/v2").json()["name"] == "kerasxfer-serving"
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json() == {"ready": True}
    assert server.get("/v2/models/net/ready").json() == {"name": "net", "ready": True}
    assert server.get("/v2/models/net/versions/1/ready").status_code == 200
    assert server.get("/v2/models/net/versions/2/ready").status_code == 404
    metadata = server.get("/v2/models/net").json()
    assert metadata["versions"] == ["1"]
    assert {output["name"]: output["shape"] for output in metadata["outputs"]} == {
        "probabilities": [-1, 3],
        "label": [-1],
    }
    names = [entry["name"] for entry in server.post("/v2/repository/index").json()]
    assert names == ["colours", "net"]
    assert json.loads(server.get("/v2/models/net/config").json()["parameters"]["class_names"]["string_value"])


def test_statistics_count_images_and_runs(server, images):
    before = server.get("/v2/models/net/stats").json()["model_stats"][0]
    server.post(URL, json={"inputs": [_entry(images)]})
    after = server.get("/v2/models/net/stats").json()["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == len(images)
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 1
    assert sum(entry["batch_size"] * entry["compute_infer"]["count"] for entry in after["batch_stats"]) >= len(images)
    assert {entry["name"] for entry in server.get("/v2/models/stats").json()["model_stats"]} == {"colours", "net"}


def test_timeout_of_the_request_is_kept(server, images):
    answer = server.post(URL, json={"inputs": [_entry(images)], "parameters": {"timeout": 1}})
    assert answer.status_code == 504
    assert server.post(URL, json={"inputs": [_entry(images)], "parameters": {"timeout": -1}}).status_code == 400
