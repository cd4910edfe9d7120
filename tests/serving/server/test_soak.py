"""Mixed clients for a while, good, broken and gone: every answer is right, and the memory stays where it was.

SOAK_SECONDS sets the while; 120 by default.
"""

import os
import random
import socket
import threading
import time
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from kerasxfer_serving.predictor import Predictor

SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))


class Clients:
    """What many clients do, and what they saw that was wrong."""

    def __init__(self, url, images, labels):
        self._url, self._images, self._labels = url, images, labels
        self._stop = threading.Event()
        self.counts = {"good": 0, "form": 0, "broken": 0, "gone": 0}
        self.wrong = []
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(8)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed):
        random_, session = random.Random(seed), requests.Session()
        while not self._stop.is_set():
            kind = random_.choices(list(self.counts), [80, 5, 8, 7])[0]
            index = random_.randrange(len(self._images))
            try:
                getattr(self, f"_{kind}")(session, index, random_)
            except Exception as error:
                self.wrong.append(repr(error))
            self.counts[kind] += 1

    def _good(self, session, index, random_):
        answer = session.post(f"{self._url}/predict", data=self._images[index], timeout=60)
        if answer.json()["predictions"][0]["label"] != self._labels[index]:
            self.wrong.append(answer.text)

    def _form(self, session, index, random_):
        answer = session.post(f"{self._url}/predict", files=[("file", image) for image in self._images], timeout=60)
        if [row["label"] for row in answer.json()["predictions"]] != self._labels:
            self.wrong.append(answer.text)

    def _broken(self, session, index, random_):
        body = self._images[index][: random_.randrange(1, 60)]
        if session.post(f"{self._url}/predict", data=body, timeout=60).status_code != 400:
            self.wrong.append(f"a broken image was answered: {body!r}")

    def _gone(self, session, index, random_):
        with socket.create_connection(("127.0.0.1", urlsplit(self._url).port), timeout=60) as connection:
            body = self._images[index]
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall((head + body)[: random_.randrange(len(head) + len(body) + 1)])


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_mixed_load_for_a_while(serve, net, images):
    with Predictor(net) as predictor:
        labels = predictor.predict(images).labels
    with serve(net, "--no-access-log", "--receive-timeout", "2") as server:
        process = psutil.Process(server.pid)
        memory = []
        with Clients(server.url, images, labels) as clients:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                time.sleep(SECONDS / 60)
                memory.append(process.memory_info().rss / 2**20)
        assert clients.wrong == []
        print(clients.counts, "MiB:", [round(value) for value in memory[::6]])
        quarter = len(memory) // 4
        assert max(memory[-quarter:]) < 1.05 * max(memory[quarter : 2 * quarter]) + 4
        assert len(process.open_files()) + len(process.net_connections()) < 100
