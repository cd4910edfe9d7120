import os
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from kerasxfer_serving import Predictor
from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.image_io.decoding import ERROR_CODES
from kerasxfer_serving.inputs.input import Input, given_input
from kerasxfer_serving.pipeline import TooManyErrorsError, predict_to
from kerasxfer_serving.runtime.resources import batched
from kerasxfer_serving.runtime.tuning import best_batch_size


@pytest.fixture(scope="module")
def predictor(model):
    with Predictor(model, device="cpu", batch_size=4, threads=1) as predictor:
        yield predictor


@pytest.fixture(scope="module")
def images(tmp_path_factory, draw_colours):
    return draw_colours(tmp_path_factory.mktemp("images"), 50)


class Memory:
    """A writer that keeps what it gets."""

    def __init__(self):
        self.paths, self.labels, self.ended = [], [], None

    def skip(self, inputs):
        return Counter()

    def write(self, predictions):
        self.paths += predictions.paths
        self.labels += predictions.labels

    def stop(self):
        self.ended = "stopped"

    def finish(self, summary):
        self.ended = summary


class Inputs(list):
    @property
    def skipped(self):
        return Counter({".md": 1})


def items(images):
    return Inputs(given_input(path, path) for path in images)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_everything_comes_once_and_in_order(predictor, images, workers):
    batches = list(predictor.stream(items(images), workers=workers))
    assert [len(batch) for batch in batches] == [4] * 12 + [2]
    assert [path for batch in batches for path in batch.paths] == list(images)
    assert [label for batch in batches for label in batch.labels] == list(images.values())


def test_a_slow_image_holds_up_nobodys_place(predictor, images):
    def slowly(path):
        time.sleep(0.2)
        return path

    paths = list(images)
    slow = [Input(paths[0], lambda: slowly(paths[0])), *(given_input(path, path) for path in paths[1:])]
    batches = list(predictor.stream(slow, workers=4))
    assert [path for batch in batches for path in batch.paths] == paths


def test_inputs_are_taken_only_as_fast_as_they_are_predicted(predictor, images):
    path = next(iter(images))
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield given_input(path, path)

    batches = predictor.stream(endless(), workers=2)
    for _ in range(5):
        next(batches)
    assert taken <= (5 + 2 * 2 + 1) * predictor.batch_size
    batches.close()


def test_no_thread_outlives_a_run_that_is_given_up(predictor, images):
    before = threading.active_count()
    batches = predictor.stream(items(images), workers=3)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_a_run_is_written_and_summed_up(predictor, images):
    inputs, writer, seen = items(images), Memory(), []
    inputs.insert(3, given_input("empty", b""))
    summary = predict_to(predictor, inputs, writer, watch=lambda summary: seen.append(summary.done))
    assert writer.paths == [item.path for item in inputs]
    assert seen == [*range(4, 52, 4), 51]
    assert (summary.done, summary.errors, dict(summary.status)) == (51, 1, {"ok": 50, "empty": 1})
    assert writer.ended["skipped"] == {".md": 1}
    assert writer.ended["bottleneck"] in ("decode", "model", "read", "write", "waiting")


def test_a_run_stops_when_too_much_has_failed(predictor, images):
    inputs, writer = items(images), Memory()
    for place in (1, 9, 17):
        inputs.insert(place, given_input("empty", b""))
    with pytest.raises(TooManyErrorsError, match="2 inputs have failed, more than 1"):
        predict_to(predictor, inputs, writer, max_errors=1)
    assert writer.ended == "stopped"
    assert writer.paths == [item.path for item in inputs[:12]]


def test_a_slow_source_is_named_as_the_bottleneck(predictor, images):
    class Slow(Inputs):
        def __iter__(self):
            for item in super().__iter__():
                time.sleep(0.01)
                yield item

    assert predict_to(predictor, Slow(items(images)), Memory()).bottleneck == "read"


def test_a_model_that_fails_ends_the_run(tmp_path, write_model, images):
    path = write_model(tmp_path / "two.onnx", class_names=("a", "b"), weights=[[1.0] * 3] * 3)
    writer = Memory()
    with pytest.raises(ModelError, match="columns"):
        predict_to(Predictor(path, device="cpu"), items(images), writer)
    assert writer.ended == "stopped"


def test_batches():
    assert list(batched(iter("abcde"), 2)) == [["a", "b"], ["c", "d"], ["e"]]


def test_the_best_batch_size_is_measured(predictor, tmp_path, write_model, monkeypatch):
    rates = {1: 50.0, 2: 80.0, 4: 98.0, 8: 100.0, 16: 99.0}
    monkeypatch.setattr("kerasxfer_serving.runtime.tuning._rate", lambda predictor, size: rates[size])
    assert best_batch_size(predictor) == predictor.batch_size == 4
    fixed = Predictor(write_model(tmp_path / "fixed.onnx", batch=3), device="cpu")
    assert best_batch_size(fixed) == 3


def test_the_measurement_measures(predictor):
    from kerasxfer_serving.runtime.tuning import _rate

    assert _rate(predictor, 2) > 0


def test_files_that_change_while_they_are_read_have_a_row_each(predictor, images, tmp_path):
    """Cut, emptied, removed, exchanged, made a folder or a link, at any moment."""
    data = Path(next(iter(images))).read_bytes()
    paths = [tmp_path / f"{number:03}.png" for number in range(200)]
    for path in paths:
        path.write_bytes(data)
    changes = [
        lambda path: os.truncate(path, len(data) // 2),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: (path.with_suffix(".new").write_bytes(data), path.with_suffix(".new").replace(path)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.rmdir(), path.write_bytes(data)),
        lambda path: (path.unlink(), path.symlink_to(random.choice(paths))),
    ]
    done = threading.Event()

    def change():
        while not done.is_set():
            with suppress(OSError):
                random.choice(changes)(random.choice(paths))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        rows = [predictions for _ in range(3) for predictions in predictor.stream(items(paths), workers=2)]
    finally:
        done.set()
        thread.join()
    assert [path for predictions in rows for path in predictions.paths] == 3 * paths
    assert {status for predictions in rows for status in predictions.status} <= {"ok", *ERROR_CODES}
