"""The application on a local Ray cluster: two replicas, one killed."""

import os
import signal
import socket
import time

import psutil
import pytest
import requests
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.predictor import Predictor

pytest.importorskip("ray.serve", reason="the extra `ray` is not installed")

from kerasxfer_serving.server.ray import build, deployment


@pytest.fixture
def ray_serve():
    import ray
    from kerasxfer_serving.cluster import ray as ray_cluster
    from ray import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ray_cluster.start(num_cpus=2):
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield serve, f"http://127.0.0.1:{port}"
        serve.shutdown()
    assert not ray.is_initialized()


def _replicas():
    processes = psutil.process_iter(["name", "cmdline"])
    return [
        process.pid for process in processes if any("ServeReplica" in word for word in process.info["cmdline"] or ())
    ]


@pytest.mark.slow
def test_two_replicas_answer_and_one_killed_is_replaced(ray_serve, net, images, wait_for):
    serve, url = ray_serve
    serve.run(deployment({"net": str(net)}, replicas=2, num_cpus=0.5))
    with Predictor(net) as predictor:
        expected = list(predictor.predict(images).rows(3, all_probabilities=True))
    for image, row in zip(images, expected, strict=True):
        answer = requests.post(f"{url}/predict?top_k=3", data=image, timeout=30).json()
        assert answer["predictions"] == [row | {"path": "[0]"}]
    before = _replicas()
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    failed, end = 0, time.monotonic() + 20
    while time.monotonic() < end and len(set(_replicas()) - {before[0]}) < 2:
        failed += requests.post(f"{url}/predict", data=images[0], timeout=30).status_code != 200
    wait_for(lambda: len(set(_replicas()) - {before[0]}) == 2)
    assert failed <= 2
    assert requests.post(f"{url}/predict", data=images[0], timeout=30).status_code == 200


@pytest.mark.parametrize("arguments", [{}, {"models": "x.onnx", "colour": "red"}])
def test_arguments_of_serve_run_are_checked(arguments):
    with pytest.raises(UsageError, match="models"):
        build(arguments)
