"""What clients do wrong, or on purpose: each is bounded in time and memory, and told so."""

import contextlib
import gzip
import io
import json
import socket
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests
from kerasxfer_serving.server import ServerOptions
from kerasxfer_serving.server.bodies import unpack
from kerasxfer_serving.server.errors import TooLargeError
from kerasxfer_serving.server.models import ServedModel
from kerasxfer_serving.server.running import RunOptions
from PIL import Image

MIB = 1 << 20


@pytest.fixture(scope="module")
def guarded(run_server, model):
    """A server that waits one second for a request, and takes a MiB."""
    options = ServerOptions(receive_timeout=1.0, max_body=MIB, max_images=16, max_pixels=1_000_000)
    with run_server({"colours": model}, options) as server:
        yield server


@pytest.fixture
def slow_model(monkeypatch):
    """Runs of models wait until they are let go."""
    go = threading.Event()
    run = ServedModel.run

    def wait(self, paths, images):
        go.wait(30)
        return run(self, paths, images)

    monkeypatch.setattr(ServedModel, "run", wait)
    yield go
    go.set()


def _read_all(connection):
    connection.settimeout(20)
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def test_silent_socket_is_closed(guarded):
    with guarded.connect() as connection:
        assert _read_all(connection) == b""


def test_stalled_head_is_a_408(guarded):
    with guarded.connect() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert _read_all(connection).startswith(b"HTTP/1.1 408")


def _drip(connection, piece):
    """Send a little again and again until there is an answer."""
    connection.settimeout(0.2)
    stop = time.monotonic() + 20
    while time.monotonic() < stop:
        with contextlib.suppress(TimeoutError):
            connection.sendall(piece)
            return connection.recv(100)
    return b""


def test_dripping_head_is_a_408(guarded):
    with guarded.connect() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\n")
        assert _drip(connection, b"X: y\r\n").startswith(b"HTTP/1.1 408")


def test_endless_head_is_a_431_and_takes_no_memory(guarded):
    before = psutil.Process().memory_info().rss
    sent = 0
    with guarded.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        try:
            while sent < 100 * MIB:
                connection.sendall(b"X-Header: " + b"a" * 1000 + b"\r\n")
                sent += 1012
        except OSError:
            pass
    assert sent < 20 * MIB
    assert psutil.Process().memory_info().rss - before < 50 * MIB


@pytest.mark.parametrize("head", [b"X: " + b"a" * 40_000, b"\r\n".join(b"X%d: y" % i for i in range(8000))])
def test_large_head_is_a_431(guarded, head):
    with guarded.connect() as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        assert _read_all(connection).startswith(b"HTTP/1.1 431")


def test_stalled_body_is_a_408(guarded):
    with guarded.connect() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()


def test_dripping_body_is_a_408(guarded):
    with guarded.connect() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert _drip(connection, b"a").startswith(b"HTTP/1.1 408")


def test_bytes_behind_a_request_do_not_end_its_wait(run_server, model, images, slow_model, wait_for):
    """Some clients end a body with a line end that Content-Length does not count."""
    with run_server({"colours": model}, ServerOptions(receive_timeout=1.0)) as server, server.connect() as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(images[0])}\r\n\r\n"
        connection.sendall(head.encode() + images[0])
        wait_for(lambda: server.core._waiting == 1)
        connection.sendall(b"\r\n")
        threading.Timer(3.5, slow_model.set).start()
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_large_body_is_refused_before_it_is_sent(guarded):
    with guarded.connect() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_body_that_nobody_reads_does_not_hold_the_connection(guarded):
    with guarded.connect() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        connection.settimeout(20)
        stop = time.monotonic() + 20
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < stop:
                connection.sendall(b"a" * 1000)
                time.sleep(0.02)
        assert time.monotonic() < stop, "the connection stayed open"


def test_endless_chunked_body_is_a_413(guarded):
    def chunks():
        for _ in range(64):
            yield b"a" * 65536

    assert guarded.post("/predict", chunks()).status_code == 413


@pytest.mark.parametrize("length", ["-1", "x", "1, 2", "1" * 30])
def test_wrong_content_lengths_are_refused(guarded, length):
    with guarded.connect() as connection:
        connection.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nab".encode())
        assert connection.recv(12)[:10] == b"HTTP/1.1 4"


@pytest.fixture(scope="module")
def bomb():
    """Less than a MiB that unpacks to 200."""
    return gzip.compress(bytes(200 * MIB), 6)


def test_gzip_bomb_is_a_413(guarded, bomb):
    assert guarded.post("/predict", bomb, headers={"Content-Encoding": "gzip"}).status_code == 413


def test_gzip_bomb_takes_no_memory(bomb):
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            unpack(bomb, "gzip", MIB)
        assert tracemalloc.get_traced_memory()[1] < 3 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("encoding", "status"), [("br", 415), ("gzip, gzip", 415), ("gzip", 400), ("deflate", 400), ("identity", 400)]
)
def test_encodings_that_are_not_what_they_say(guarded, encoding, status):
    answer = guarded.post("/predict", b"not packed", headers={"Content-Encoding": encoding})
    assert answer.status_code == status


def test_truncated_gzip_is_a_400(guarded, images):
    packed = gzip.compress(images[0])
    answer = guarded.post("/predict", packed[:-10], headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, "ends early" in answer.json()["error"]) == (400, True)


def test_image_bomb_is_refused_by_its_header(guarded):
    buffer = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(buffer, "PNG")
    before = psutil.Process().memory_info().rss
    answer = guarded.post("/predict", buffer.getvalue())
    assert answer.json()["predictions"][0]["status"] == "decompression_bomb"
    assert psutil.Process().memory_info().rss - before < 30 * MIB


def test_too_many_images_are_a_413(guarded, images):
    files = [("file", image) for image in images * 2]
    assert guarded.post("/predict", files=files).status_code == 413
    data = [1] * (17 * 3)
    entry = {"name": "images", "datatype": "UINT8", "shape": [17, 1, 1, 3], "data": data}
    assert guarded.post("/v2/models/colours/infer", json={"inputs": [entry]}).status_code == 413


def test_urls_are_never_fetched(guarded):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(1)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.png"
        assert guarded.post("/predict", json={"images": [url]}).status_code == 400
        assert guarded.post("/predict", url.encode()).status_code == 400
        with pytest.raises(TimeoutError):
            listener.accept()


def test_full_queue_is_a_503_at_once(run_server, model, images, slow_model):
    with run_server({"colours": model}, ServerOptions(max_waiting=8)) as server, ThreadPoolExecutor(40) as pool:
        pending = [pool.submit(server.post, "/predict", images[0]) for _ in range(40)]
        while sum(future.done() for future in pending) < 32:
            time.sleep(0.02)
        slow_model.set()
        answers = [future.result() for future in pending]
        refused = [answer for answer in answers if answer.status_code == 503]
        assert [answer.status_code for answer in answers].count(200) == 8
        assert len(refused) == 32
        assert refused[0].headers["Retry-After"] == "1"
        assert "wait" in refused[0].json()["error"]
        assert server.post("/predict", images[0]).status_code == 200


def test_bytes_in_hand_are_bounded(run_server, model, images, slow_model, wait_for):
    options = ServerOptions(max_waiting_bytes=len(images[0]) + 10)
    with run_server({"colours": model}, options) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.post, "/predict", images[0])
        wait_for(lambda: server.core._waiting == 1)
        assert server.post("/predict", images[0]).status_code == 503
        slow_model.set()
        assert first.result().status_code == 200
        assert server.post("/predict", images[0]).status_code == 200


def test_deadline_is_a_504_and_drops_what_has_not_begun(run_server, model, images, slow_model, wait_for):
    options = ServerOptions(timeout=0.5, threads=1, max_batch=1)
    with run_server({"colours": model}, options) as server, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: server.post("/predict", images[0]), range(6)))
        assert {answer.status_code for answer in answers} == {504}
        slow_model.set()
        wait_for(lambda: server.core._waiting == 0)
        assert server.post("/predict", images[0]).status_code == 200
        runs = server.get("/v2/models/colours/stats").json()["model_stats"][0]["execution_count"]
        assert runs == 2  # the one that had begun, and the last


def test_work_of_clients_that_have_left_is_dropped(run_server, model, images, slow_model, wait_for):
    options = ServerOptions(threads=1, max_batch=1)
    with run_server({"colours": model}, options) as server:
        connections = [server.connect() for _ in range(64)]
        body = images[0]
        for connection in connections:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
        wait_for(lambda: server.core._waiting == 64)
        for connection in connections:
            connection.close()
        wait_for(lambda: server.core._waiting == 0)
        slow_model.set()
        assert server.post("/predict", images[0]).status_code == 200
        runs = server.get("/v2/models/colours/stats").json()["model_stats"][0]["execution_count"]
        assert runs == 2  # the one that had begun, and the last
        assert 'kerasxfer_rejected_total{reason="client_gone"} 64.0' in server.get("/metrics").text


def test_failure_of_a_model_is_a_500_that_says_nothing_of_it(run_server, model, images, monkeypatch):
    def fail(self, paths, decoded):
        raise RuntimeError("secret")

    with run_server({"colours": model}) as server:
        with monkeypatch.context() as patch:
            patch.setattr(ServedModel, "run", fail)
            answer = server.post("/predict", images[0])
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.headers["X-Request-Id"]
        assert server.post("/predict", images[0]).status_code == 200


def test_answers_go_to_whom_they_belong(run_server, model, draw_colours, tmp_path):
    """Good, broken and abandoned requests at once: no answer is another's."""
    colours = draw_colours(tmp_path / "many", 40)
    bodies = [(Path(path).read_bytes(), colour) for path, colour in colours.items()]
    wrong = []

    def ask(number):
        body, colour = bodies[number % len(bodies)]
        if number % 7 == 3:
            with server.connect() as connection:
                head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body[: len(body) - (number % 3)])
            return
        if number % 11 == 5:
            body, colour = b"broken", None
        with requests.post(f"{server.url}/predict", data=body, timeout=60) as answer:
            if answer.json()["predictions"][0]["label"] != colour:
                wrong.append(number)

    with run_server({"colours": model}) as server, ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(400)))
        assert wrong == []


def test_connections_are_bounded(run_server, model):
    with run_server({"colours": model}, run=RunOptions(port=0, max_connections=4)) as server:
        connections = [server.connect() for _ in range(6)]
        assert server.get("/v2/health/live").status_code == 503
        for connection in connections:
            connection.close()


def test_hostile_request_ids_are_replaced(guarded):
    with guarded.connect() as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\x80b\r\nConnection: close\r\n\r\n")
        head = _read_all(connection).partition(b"\r\n\r\n")[0].lower()
    assert b"x-request-id: a" not in head
    assert guarded.get("/v2", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"


def test_unknown_paths_and_methods_are_errors_in_the_protocols_form(guarded):
    assert json.loads(guarded.get("/nope").text)["error"]
    assert guarded.get("/predict").status_code == 405
    assert guarded.get("/static/../app.py").status_code == 404
