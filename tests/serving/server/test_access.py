"""Who may ask, from where, and how the server is mounted in other applications."""

import subprocess

import pytest
import requests
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.server import ServerOptions, create_app
from kerasxfer_serving.server.running import RunOptions
from starlette.applications import Starlette
from starlette.routing import Mount

TOKEN = {"Authorization": "Bearer second-token"}


@pytest.fixture(scope="module")
def closed(run_server, net):
    options = ServerOptions(tokens=("first-token", "second-token"), cors_origins=("https://good.example",))
    with run_server(net, options) as server:
        yield server


@pytest.mark.parametrize("path", ["/predict", "/v2/models/net/infer", "/predictions/net", "/v1/models/net:predict"])
def test_no_token_no_answer(closed, images, path):
    answer = closed.post(path, images[0])
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    "given", ["Bearer wrong", "Bearer ", "second-token", "Basic second-token", "Bearer second-token2"]
)
def test_wrong_tokens(closed, images, given):
    assert closed.post("/predict", images[0], headers={"Authorization": given}).status_code == 401


def test_any_of_the_tokens_opens(closed, images):
    for token in ("Bearer first-token", "bearer second-token"):
        assert closed.post("/predict", images[0], headers={"Authorization": token}).status_code == 200


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/ping", "/", "/docs", "/static/page.js"])
def test_probes_and_page_are_open(closed, path):
    assert closed.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/v2", "/v2/models/stats", "/v1/models", "//v2/health/live"])
def test_all_else_is_closed(closed, path):
    assert closed.get(path).status_code == 401


def test_other_origins_only_where_allowed(closed, server):
    preflight = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
    with requests.Session() as session:
        answer = session.options(f"{closed.url}/predict", headers=preflight, timeout=10)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://good.example"
        answer = session.options(
            f"{closed.url}/predict", headers=preflight | {"Origin": "https://bad.example"}, timeout=10
        )
        assert "Access-Control-Allow-Origin" not in answer.headers
    answer = server.get("/v2", headers={"Origin": "https://good.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_tls(run_server, net, images, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", cert, "-keyout", key]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no openssl command")
    with run_server(net, run=RunOptions(port=0, tls=(cert, key))) as server:
        answer = requests.post(f"https://127.0.0.1:{server.port}/predict", data=images[0], verify=cert, timeout=20)
        assert answer.status_code == 200


def test_mounted_in_another_application(run_server, net, images):
    app = create_app({"inner": net})
    outer = Starlette(routes=[Mount("/vision", app)])
    outer.state.server = app.state.server
    with run_server(net) as server:
        server.uvicorn.config.loaded_app = outer
        assert server.post("/vision/predict", images[0]).json()["model"] == "inner"
        assert server.get("/vision/v2/models/inner").json()["name"] == "inner"
        assert server.get("/vision/openapi.json").json()["servers"] == [{"url": "/vision"}]
        assert server.get("/predict").status_code == 404
    app.state.server.close()


def test_metrics_tell_requests_images_and_batches(server, images):
    server.post("/predict/net", images[0])
    server.post("/predict/net", b"no image")
    text = server.get("/metrics").text
    for line in (
        'kerasxfer_images_total{model="net",status="ok"}',
        'kerasxfer_images_total{model="net",status="not_an_image"}',
        'kerasxfer_batch_images_bucket{le="1.0",model="net"}',
        'kerasxfer_step_seconds_count{model="net",step="decode"}',
        'kerasxfer_requests_total{method="POST",protocol="http",status="200"}',
        'kerasxfer_model_loads_total{model="net"',
        "kerasxfer_waiting_images 0.0",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("models", "word"),
    [
        ([], "at least one model"),
        ({"a b": "x.onnx"}, "name"),
        (["nope/"], "model file `nope` does not exist"),
        (["x.onnx="], "name"),
    ],
)
def test_models_that_cannot_be_served(models, word):
    from kerasxfer_serving.errors import KerasxferError

    with pytest.raises(KerasxferError, match=word):
        create_app(models)


def test_folder_without_versions(tmp_path):
    with pytest.raises(UsageError, match="number"):
        create_app(tmp_path)


def test_two_files_of_one_name_are_its_versions(write_net, tmp_path, images):
    paths = [write_net(tmp_path / f"{seed}.onnx", seed=seed) for seed in (1, 2)]
    app = create_app([f"{path}=net" for path in paths])
    assert app.state.server.registry.versions("net") == ["1", "2"]
    app.state.server.close()


@pytest.mark.parametrize("change", [{"max_body": 0}, {"max_images": 0}, {"timeout": 0}, {"receive_timeout": -1}])
def test_impossible_options(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        ServerOptions(**change)
