import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

requests = pytest.importorskip("requests")

_SECONDS = 60


@pytest.fixture(scope="session")
def images(tmp_path_factory, draw_colours):
    """Twelve small images as encoded bytes, each of one colour."""
    paths = draw_colours(tmp_path_factory.mktemp("images"), 12)
    return [Path(path).read_bytes() for path in paths]


class Running:
    """A server in a thread of this process, on a free port."""

    def __init__(self, models, options=None, *, watch=False, run=None):
        from kerasxfer_serving.server import create_app
        from kerasxfer_serving.server.running import RunOptions, listen, make_server

        self.app = create_app(models, options, watch=watch)
        self.core = self.app.state.server
        run = run or RunOptions(port=0)
        self._socket = listen(run)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.uvicorn = make_server(self.app, run)
        self._thread = threading.Thread(target=self.uvicorn.run, args=([self._socket],))

    def __enter__(self):
        self._thread.start()
        wait_for(lambda: self.uvicorn.started)
        return self

    def __exit__(self, *_):
        self.uvicorn.should_exit = True
        self._thread.join(_SECONDS)
        assert not self._thread.is_alive()

    def get(self, path, **more):
        return requests.get(self.url + path, timeout=_SECONDS, **more)

    def post(self, path, data=None, **more):
        return requests.post(self.url + path, data=data, timeout=_SECONDS, **more)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=_SECONDS)


@pytest.fixture(scope="session")
def run_server():
    """`with run_server(models, options) as server`: a server in this process."""
    return Running


@pytest.fixture(scope="module")
def server(model):
    """A server of the colour model."""
    with Running({"colours": model}) as running:
        yield running


class Process:
    """`kerasxfer-serving serve` as a process of its own."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "kerasxfer_serving", "serve", "--port", "0", *map(str, arguments)]
        self._popen = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"})
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for(lambda: any("Serving at" in line for line in self.lines) or self._popen.poll() is not None)
        address = next((line for line in self.lines if "Serving at" in line), None)
        assert address, self.lines
        self.url = address.split("Serving at ")[1].split()[0]
        wait_for(self.is_ready)

    def _read(self):
        for line in self._popen.stderr:
            self.lines.append(line.rstrip())

    def is_ready(self):
        try:
            return requests.get(f"{self.url}/v2/health/ready", timeout=5).ok
        except requests.ConnectionError:
            return False

    @property
    def pid(self):
        return self._popen.pid

    def signal(self, number=signal.SIGTERM):
        self._popen.send_signal(number)

    def wait(self, timeout=_SECONDS):
        return self._popen.wait(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._popen.poll() is None:
            self._popen.terminate()
            try:
                self._popen.wait(20)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        self._popen.stderr.close()


@pytest.fixture(scope="session")
def serve():
    """`with serve(model, *options) as process`: the command, running and ready."""
    return Process


def wait_for(condition, seconds=_SECONDS):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


@pytest.fixture(name="wait_for", scope="session")
def wait_for_fixture():
    return wait_for
