import os
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io.processes import CHUNK, DecodingProcesses
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.inputs.input import Input, as_inputs, decode_input, given_input
from kerasxfer_serving.predictor import Predictor

SIZE = (20, 24)
POLICY = ImagePolicy(resize="pad")


@pytest.fixture(scope="module")
def decoding():
    with DecodingProcesses(SIZE, POLICY, processes=2, batch_size=64, slots=2) as processes:
        yield processes


def described(image):
    if isinstance(image, ImageError):
        return image.code, str(image)
    return image.width, image.height, image.format, image.mode, image.animated


def test_images_are_those_of_this_process(decoding, zoo):
    items = as_inputs([case.path for case in zoo])[:64]
    with decoding.decoded(items) as batch:
        for place, item, image in zip(batch.pixels, items, batch, strict=True):
            expected = decode_input(item, POLICY, SIZE)
            assert described(image) == described(expected)
            pixels = 0 if isinstance(expected, ImageError) else expected.pixels
            np.testing.assert_array_equal(place, np.broadcast_to(pixels, place.shape))


def test_a_slot_is_used_again_without_traces(decoding):
    white, missing = np.full((5, 5, 3), 255, np.uint8), ImageError
    for _ in range(3):
        with decoding.decoded(as_inputs([white] * 40)) as batch:
            assert batch.pixels.max() == 255
        with decoding.decoded(as_inputs(["missing.png"] * 40)) as batch:
            assert batch.pixels.max() == 0
            assert all(isinstance(image, missing) for image in batch)


def test_what_cannot_be_sent_is_decoded_here(decoding):
    grey = np.full((5, 5, 3), 100, np.uint8)
    items = [Input("here", lambda: grey), given_input("there", grey)]
    with decoding.decoded(items) as batch:
        np.testing.assert_array_equal(batch.pixels[0], batch.pixels[1])
        assert described(batch[0]) == described(batch[1])


def test_an_image_that_ends_its_process_costs_its_own_row(decoding):
    grey = np.full((5, 5, 3), 100, np.uint8)
    items = [given_input(str(number), grey) for number in range(CHUNK + 3)]
    items[4] = Input("deadly", partial(os._exit, 3))
    for _ in range(2):
        with decoding.decoded(items) as batch:
            failed = {number: image.code for number, image in enumerate(batch) if isinstance(image, ImageError)}
            assert failed == {4: "worker_died"}
            assert batch.pixels[4].max() == 0
            np.testing.assert_array_equal(batch.pixels[3], batch.pixels[5])


def test_no_process_and_no_memory_is_left():
    before = set(psutil.Process().children(recursive=True))
    descriptors = psutil.Process().num_fds()
    with DecodingProcesses(SIZE, POLICY, processes=2, batch_size=4, slots=1) as processes:
        assert len(set(psutil.Process().children(recursive=True)) - before) == 2
        with processes.decoded(as_inputs([np.zeros((4, 4, 3), np.uint8)])):
            pass
    assert set(psutil.Process().children(recursive=True)) == before
    assert psutil.Process().num_fds() == descriptors


def test_where_files_need_names_the_memory_has_one_and_goes_too(monkeypatch):
    monkeypatch.setattr("kerasxfer_serving.image_io.processes._NAMELESS", False)  # as on Windows
    descriptors, white = psutil.Process().num_fds(), np.full((5, 5, 3), 255, np.uint8)
    with DecodingProcesses(SIZE, POLICY, processes=1, batch_size=4, slots=1) as named:
        file = Path(named._file)
        with named.decoded(as_inputs([white, "missing.png"])) as batch:
            np.testing.assert_array_equal(batch.pixels[0], decode_input(as_inputs([white])[0], POLICY, SIZE).pixels)
    del batch
    assert not file.exists()
    assert psutil.Process().num_fds() == descriptors


def test_a_predictor_answers_as_without_them(model, zoo):
    paths = [case.path for case in zoo] * 2
    with Predictor(model, batch_size=8) as plain, Predictor(model, batch_size=8, decode_processes=2) as spread:
        expected, answered = plain.predict(paths), spread.predict(paths)
    assert answered.status == expected.status
    assert answered.messages == expected.messages
    assert answered.sizes == expected.sizes
    np.testing.assert_array_equal(answered.probabilities, expected.probabilities)


def test_a_stream_that_is_left_ends_its_processes(model, zoo):
    before = set(psutil.Process().children(recursive=True))
    with Predictor(model, batch_size=4, decode_processes=2) as predictor:
        stream = predictor.stream(as_inputs([case.path for case in zoo] * 3))
        next(stream)
        stream.close()
        assert set(psutil.Process().children(recursive=True)) == before
