"""Clients that people have. Each wants an environment of its own, named by a variable; without it its test is skipped:

TRITON_PYTHON   pip install "tritonclient[http,grpc]"      KSERVE_PYTHON   pip install kserve
WEB_PYTHON      pip install requests httpx                 MLSERVER        pip install mlserver (the command)
SCHEMATHESIS    pip install schemathesis (the command)
"""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from kerasxfer_serving.predictor import Predictor

pytestmark = pytest.mark.slow
CLIENTS = Path(__file__).parent / "clients"
GRPC_PORT = 18326


@pytest.fixture(scope="module")
def paths(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("client")
    for index, image in enumerate(images):
        (folder / f"{index}.png").write_bytes(image)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(net, paths):
    with Predictor(net) as predictor:
        return predictor.predict(paths)


@pytest.fixture(scope="module")
def served(serve, net):
    pytest.importorskip("grpc", reason="the extra `grpc` is not installed")
    with serve(f"{net}=net", "--grpc-port", GRPC_PORT) as process:
        yield process


def _tool(variable):
    return os.environ.get(variable) or pytest.skip(f"{variable} is not set: see this file's first lines")


def _run(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]
    return done.stdout


def test_tritonclient_in_all_its_forms(served, paths, expected):
    python = _tool("TRITON_PYTHON")
    address = served.url.removeprefix("http://")
    found = json.loads(_run(python, CLIENTS / "triton.py", address, f"127.0.0.1:{GRPC_PORT}", *paths))
    assert set(found) == {"http", "grpc", "gzip", "deflate", "json answer", "http.aio", "grpc.aio"}
    for answer in found.values():
        np.testing.assert_array_equal(np.array(answer["probabilities"], np.float32), expected.probabilities)
        assert answer["label"] == expected.labels


def test_kserve_client_over_v1_and_v2(served, paths, expected):
    found = json.loads(_run(_tool("KSERVE_PYTHON"), CLIENTS / "kserve_client.py", served.url, *paths))
    assert set(found) == {"v1", "v2", "v2 binary"}
    for answer in found.values():
        np.testing.assert_array_equal(np.array(answer, np.float32), expected.probabilities)


@pytest.mark.parametrize("binary", [[], ["-b"]], ids=["json", "binary"])
def test_mlserver_infer(served, paths, expected, binary, tmp_path):
    items = [base64.b64encode(path.read_bytes()).decode() for path in paths]
    entry = {"name": "images", "shape": [1], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
    entries = [entry | {"data": [item]} for item in items]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"inputs": [entry]}) + "\n" for entry in entries))
    command = (_tool("MLSERVER"), "infer", "-u", served.url.removeprefix("http://"), "-m", "net", "-s", "4")
    _run(*command, "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", *binary)
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    answers.sort(key=lambda answer: answer["parameters"]["batch_index"])
    found = {tuple(answer["outputs"][0]["data"]) for answer in answers}
    assert len(answers) == len(paths)
    assert found == {tuple(row) for row in expected.probabilities.astype(float).tolist()}


def test_requests_and_httpx(served, paths, expected):
    found = json.loads(_run(_tool("WEB_PYTHON"), CLIENTS / "web.py", served.url, *paths))
    assert set(found) == {f"{name}{way}" for name in ("requests", "httpx") for way in ("", ", form", ", chunked")}
    for way, labels in found.items():
        assert labels == (expected.labels[:1] if way.endswith("chunked") else expected.labels)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(served, paths, expected):
    raw = json.loads(_run("curl", "-sS", "--data-binary", f"@{paths[0]}", f"{served.url}/predict"))
    assert raw["predictions"][0]["label"] == expected.labels[0]
    form = [part for path in paths for part in ("-F", f"file=@{path}")]
    rows = json.loads(_run("curl", "-sS", *form, f"{served.url}/predict"))["predictions"]
    assert [row["label"] for row in rows] == expected.labels


def test_curl_sees_that_a_body_is_too_large(served, tmp_path):
    (tmp_path / "large").write_bytes(bytes(40 << 20))
    code = _run("curl", "-sS", "-o", os.devnull, "-w", "%{http_code}", "-T", tmp_path / "large", f"{served.url}/x")
    assert code == "404"  # `-T` sends PUT to a path that is not there
    command = ("curl", "-sS", "-w", "%{http_code}", "--data-binary", f"@{tmp_path / 'large'}")
    assert _run(*command, "-o", os.devnull, f"{served.url}/predict") == "413"


def test_schemathesis_finds_nothing(served):
    command = (_tool("SCHEMATHESIS"), "run", f"{served.url}/openapi.json", "--max-examples", "40", "--checks", "all")
    # Any bytes fit the schema of an image, and unknown parameters are ignored.
    _run(*command, "--exclude-checks", "positive_data_acceptance,negative_data_rejection")
