import os
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import requests
from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest
from onnx import TensorProto, helper, numpy_helper

# Nothing here is collected where the extra `serve` is not installed.
collect_ignore_glob = [] if find_spec("starlette") and find_spec("uvicorn") else ["test_*.py"]

_SECONDS = 60


def write_net(path, *, seed=0, size=(48, 40), classes=("first", "second", "third"), scale=1.0):
    """A small network with drawn weights, whose answers, as those of real ones, do not depend on the batch."""
    rng = np.random.default_rng(seed)
    constants = {
        "scale": np.array(scale / 255, np.float32),
        "kernel": rng.normal(0, 0.5, (16, 3, 3, 3)).astype(np.float32),
        "weights": rng.normal(0, 2, (16, len(classes))).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels_first", "kernel"], ["convolved"], strides=[2, 2]),
        helper.make_node("Relu", ["convolved"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *size, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(classes)])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.metadata_props.add(key=METADATA_KEY, value=Manifest(class_names=classes, image_size=size).to_json())
    onnx.save(model, path)
    return path


@pytest.fixture(name="write_net", scope="session")
def write_net_fixture():
    return write_net


@pytest.fixture(scope="session")
def net(tmp_path_factory):
    """The file of a small network."""
    return write_net(tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="session")
def images(tmp_path_factory, draw_colours):
    """Twelve small images as encoded bytes, each of one colour."""
    paths = draw_colours(tmp_path_factory.mktemp("images"), 12)
    return [Path(path).read_bytes() for path in paths]


class Running:
    """A server in a thread of this process, on a free port."""

    def __init__(self, models, options=None, *, watch=False, run=None, companions=lambda core: []):
        from kerasxfer_serving.server import create_app
        from kerasxfer_serving.server.running import RunOptions, listen, make_server

        self.app = create_app(models, options, watch=watch)
        self.core = self.app.state.server
        run = run or RunOptions(port=0)
        self._socket = listen(run)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.companions = companions(self.core)
        self.uvicorn = make_server(self.app, run, companions=self.companions)
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
def server(model, net):
    """A server of the colour model, and of a small network."""
    with Running({"colours": model, "net": net}) as running:
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
