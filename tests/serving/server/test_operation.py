"""The command as an operator has it: stopping, replacing models, replacing processes."""

import json
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests
from kerasxfer_serving.server import ServerOptions
from kerasxfer_serving.server.models import ServedModel
from kerasxfer_serving.server.running import RunOptions


class Load:
    """Clients that ask again and again, each over a connection of its own; what they were answered."""

    def __init__(self, url, image, clients=8, fresh=False):
        self._url, self._image, self._fresh = url, image, fresh
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients = clients
        self.answers, self.errors = [], []

    def __enter__(self):
        for _ in range(self._clients):
            self._pool.submit(self._ask)
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._pool.shutdown()

    def _ask(self):
        session = requests.Session()
        while not self._stop.is_set():
            if self._fresh:
                session = requests.Session()
            try:
                answer = session.post(f"{self._url}/predict", data=self._image, timeout=30)
                self.answers.append(answer)
            except requests.RequestException as error:
                self.errors.append(error)
                time.sleep(0.05)


def test_sigterm_answers_all_that_has_begun_and_exits_with_0(serve, net, images, wait_for):
    with serve(net, "--shutdown-delay", 1) as process, ThreadPoolExecutor(60) as pool:
        pending = [pool.submit(requests.post, f"{process.url}/predict", data=images[0], timeout=30) for _ in range(60)]
        process.signal(signal.SIGTERM)
        answers = [future.result() for future in pending]
        assert [answer.status_code for answer in answers] == [200] * 60
        assert process.wait() == 0


def test_stopping_server_is_not_ready_and_still_answers_until_the_delay_is_over(serve, net, images, wait_for):
    with serve(net, "--shutdown-delay", 3) as process:
        process.signal(signal.SIGTERM)
        wait_for(lambda: requests.get(f"{process.url}/v2/health/ready", timeout=5).status_code == 503)
        assert requests.get(f"{process.url}/v2/health/live", timeout=5).status_code == 200
        answer = requests.post(f"{process.url}/predict", data=images[0], timeout=5)
        assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
        assert process.wait() == 0
        with pytest.raises(requests.ConnectionError):
            requests.get(process.url, timeout=5)


def test_begun_request_is_answered_after_the_listener_is_closed(run_server, net, images, monkeypatch, wait_for):
    go, run = threading.Event(), ServedModel.run
    monkeypatch.setattr(ServedModel, "run", lambda *given: go.wait(20) and run(*given))
    with run_server(net) as server, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(server.post, "/predict", images[0])
        wait_for(lambda: server.core._waiting == 1)
        server.uvicorn.handle_exit(signal.SIGTERM, None)
        wait_for(lambda: not server.uvicorn.servers[0].is_serving())
        go.set()
        assert pending.result().status_code == 200


def test_second_signal_ends_at_once(serve, net):
    with serve(net, "--shutdown-delay", 600) as process:
        process.signal(signal.SIGINT)
        time.sleep(0.5)
        process.signal(signal.SIGINT)
        process.wait(10)


def test_taken_port_and_unknown_model_are_errors(serve, net, capsys):
    from kerasxfer_serving.errors import KerasxferError
    from kerasxfer_serving.server.serving import Service
    from kerasxfer_serving.server.serving import serve as run

    with serve(net) as process:
        port = int(process.url.rpartition(":")[2])
        service = Service(models=(str(net),), options=ServerOptions(), run=RunOptions(port=port))
        with pytest.raises(KerasxferError, match="--port"):
            run(service, 1, print)
    service = Service(models=("nope.onnx",), options=ServerOptions(), run=RunOptions(port=0))
    with pytest.raises(KerasxferError, match=r"nope\.onnx"):
        run(service, 1, print)


def _version_of(server, model="net"):
    return server.get(f"/v2/models/{model}/config").json()["parameters"]["sha256"]["string_value"]


def _replace(path, make):
    """A new file in the place of the old, as deployments do it: written beside, then renamed."""
    make(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def test_changed_file_is_served_without_an_error(run_server, write_net, images, tmp_path, wait_for):
    path = write_net(tmp_path / "net.onnx", seed=1)
    with run_server(path, watch=True) as server:
        before = _version_of(server)
        first = server.post("/predict", images[0]).json()["predictions"]
        with Load(server.url, images[0]) as load:
            for seed in (2, 3):
                _replace(path, lambda new, seed=seed: write_net(new, seed=seed))
                wait_for(lambda before=before: _version_of(server) != before)
                before = _version_of(server)
        assert load.errors == []
        assert {answer.status_code for answer in load.answers} == {200}
        assert len(load.answers) > 20
        assert server.post("/predict", images[0]).json()["predictions"] != first


def test_bad_file_leaves_the_old_model_serving(run_server, write_net, images, tmp_path, wait_for, caplog):
    path = write_net(tmp_path / "net.onnx")
    with run_server(path, watch=True) as server:
        before = _version_of(server)
        caplog.set_level("ERROR", "kerasxfer_serving")
        path.write_bytes(b"rubbish")
        wait_for(lambda: "is not reloaded" in caplog.text)
        assert _version_of(server) == before
        assert server.post("/predict", images[0]).status_code == 200
        path.unlink()
        time.sleep(1.5)
        assert server.post("/predict", images[0]).status_code == 200
        write_net(path, seed=5)
        wait_for(lambda: _version_of(server) != before)


def test_folder_of_versions_serves_the_newest_and_each_by_number(run_server, write_net, images, tmp_path, wait_for):
    folder = tmp_path / "animals"
    for version in (2, 10):
        (folder / str(version)).mkdir(parents=True)
        write_net(folder / str(version) / "model.onnx", seed=version)
    with run_server(folder, watch=True) as server:
        assert server.get("/v2/models/animals").json()["versions"] == ["2", "10"]
        newest = server.post("/predict", images[0]).json()
        assert newest["version"] == "10"
        old = server.post("/predict?version=2", images[0]).json()
        assert (old["version"], old["predictions"] != newest["predictions"]) == ("2", True)
        write_net((folder / "10").parent / "11.onnx")
        (folder / "11").mkdir()
        shutil.move(folder / "11.onnx", folder / "11" / "model.onnx")
        wait_for(lambda: server.get("/v2/models/animals").json()["versions"] == ["2", "10", "11"])
        shutil.rmtree(folder / "2")
        wait_for(lambda: server.get("/v2/models/animals").json()["versions"] == ["10", "11"])


def _metrics(url):
    lines = requests.get(f"{url}/metrics", timeout=10).text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_crashed_process_is_replaced_while_the_other_answers(serve, net, images, wait_for):
    with serve(net, "--processes", 2) as process:
        parent = psutil.Process(process.pid)
        wait_for(lambda: sum("is ready" in line for line in process.lines) == 2)
        workers = _workers(parent)
        with Load(process.url, images[0], clients=4, fresh=True) as load:
            wait_for(lambda: len(load.answers) > 50)
            os.kill(workers[0], signal.SIGSEGV)
            wait_for(lambda: sum("is ready" in line for line in process.lines) == 3)
            answered = len(load.answers)
            wait_for(lambda: len(load.answers) > answered + 20)
        assert {answer.status_code for answer in load.answers} == {200}
        assert len(load.errors) <= 8
        assert len(_workers(parent)) == 2
        counted = _metrics(process.url)['kerasxfer_images_total{model="net",status="ok"}']
        assert abs(counted - len(load.answers)) <= len(load.errors)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert not any(psutil.pid_exists(pid) for pid in workers)


def _workers(parent):
    return [child.pid for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]


def test_workers_end_when_their_supervisor_is_killed(serve, net, wait_for):
    with serve(net, "--processes", 2) as process:
        wait_for(lambda: sum("is ready" in line for line in process.lines) == 2)
        workers = _workers(psutil.Process(process.pid))
        process.signal(signal.SIGKILL)
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers))


def test_log_is_json_with_ids(serve, net, images):
    with serve(net, "--log-format", "json") as process:
        requests.post(f"{process.url}/predict", data=images[0], headers={"X-Request-Id": "mine"}, timeout=10)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        events = [json.loads(line) for line in process.lines if line.startswith("{")]
    (event,) = [event for event in events if event.get("id") == "mine"]
    assert (event["method"], event["path"], event["status"]) == ("POST", "/predict", 200)
    assert event["time"].endswith("Z")
