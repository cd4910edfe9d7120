import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import DecodedImage
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.server.engine import BatchingEngine, BatchPolicy
from kerasxfer_serving.server.jobs import Job


class Recorder:
    """A model that answers with the number an image is, and remembers its batches."""

    def __init__(self, max_batch, seconds=0.0):
        self.max_batch = max_batch
        self.batches = []
        self.seconds = seconds
        self.go = threading.Event()
        self.go.set()

    def decode(self, source):
        if source == b"bad":
            return ImageError("corrupt", "bad")
        return DecodedImage(np.full((1, 1, 3), int(source), np.uint8), 1, 1, "PNG", "RGB", False)

    def run(self, paths, images):
        if not all(isinstance(image, ImageError) for image in images):
            self.batches.append(len(images))
            self.go.wait(20)
            time.sleep(self.seconds)
        values = [0 if isinstance(image, ImageError) else image.pixels[0, 0, 0] / 255 for image in images]
        outputs = [np.array([[value, 1 - value] for value in values], np.float32)]
        return Predictions.of_batch(("a", "b"), paths, images, outputs)


@pytest.fixture
def make_engine():
    engines = []

    def make(**policy):
        engines.append(BatchingEngine(2, BatchPolicy(**policy)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def _submit(engine, model, sources, seconds=20.0):
    loop = asyncio.get_running_loop()
    paths = [str(index) for index in range(len(sources))]
    job = Job(model, list(sources), paths, time.monotonic() + seconds, loop.create_future())
    engine.submit(job)
    return job


def test_answers_keep_the_order_of_the_images(make_engine):
    async def ask():
        engine, model = make_engine(runners=3), Recorder(4, 0.001)
        jobs = [_submit(engine, model, [b"%d" % (10 * job + index) for index in range(10)]) for job in range(10)]
        return [await job.future for job in jobs]

    for number, predictions in enumerate(asyncio.run(ask())):
        values = np.round(predictions.probabilities[:, 0] * 255).astype(int).tolist()
        assert values == [10 * number + index for index in range(10)]
        assert predictions.paths == [str(index) for index in range(10)]


def test_bad_images_need_no_model(make_engine):
    async def ask():
        engine, model = make_engine(runners=1), Recorder(4)
        predictions = await _submit(engine, model, [b"1", b"bad", b"2"]).future
        alone = await _submit(engine, model, [b"bad"]).future
        return predictions, alone, sum(model.batches)

    predictions, alone, images = asyncio.run(ask())
    assert predictions.status == ["ok", "corrupt", "ok"]
    assert alone.status == ["corrupt"]
    assert images == 2


def test_free_runner_takes_its_fair_share_of_what_waits(make_engine):
    """While the one runner works, what comes in gathers, and is taken together up to the largest batch."""

    async def ask():
        engine, model = make_engine(runners=1), Recorder(8)
        model.go.clear()
        first = _submit(engine, model, [b"1"])
        while not model.batches:
            await asyncio.sleep(0.001)
        rest = _submit(engine, model, [b"2"] * 20)
        while sum(map(len, engine._ready.values())) < 20:
            await asyncio.sleep(0.001)
        model.go.set()
        await asyncio.gather(first.future, rest.future)
        return model.batches

    assert asyncio.run(ask()) == [1, 8, 8, 4]


def test_delay_lets_a_batch_fill(make_engine):
    async def ask():
        engine, model = make_engine(runners=1, delay=5.0), Recorder(8)
        await asyncio.gather(*(_submit(engine, model, [b"1"]).future for _ in range(8)))
        return model.batches

    assert asyncio.run(ask()) == [8]


def test_delay_ends(make_engine):
    async def ask():
        engine, model = make_engine(runners=2, delay=0.01), Recorder(8)
        await _submit(engine, model, [b"1"] * 3).future
        return model.batches

    assert sum(asyncio.run(ask())) == 3


def test_batches_are_of_one_model(make_engine):
    async def ask():
        engine, models = make_engine(runners=1), [Recorder(8), Recorder(8)]
        models[0].go.clear()
        jobs = [_submit(engine, models[0], [b"1"])]
        while not models[0].batches:
            await asyncio.sleep(0.001)
        jobs += [_submit(engine, models[index % 2], [b"2"]) for index in range(6)]
        while sum(map(len, engine._ready.values())) < 6:
            await asyncio.sleep(0.001)
        models[0].go.set()
        await asyncio.gather(*(job.future for job in jobs))
        return [model.batches for model in models]

    assert asyncio.run(ask()) == [[1, 3], [3]]


def test_abandoned_and_late_jobs_are_not_run(make_engine):
    async def ask():
        engine, model = make_engine(runners=1), Recorder(1)
        model.go.clear()
        first = _submit(engine, model, [b"1"])
        while not model.batches:
            await asyncio.sleep(0.001)
        _submit(engine, model, [b"2"] * 5).abandon()
        _submit(engine, model, [b"3"] * 5, seconds=0.0)
        model.go.set()
        last = _submit(engine, model, [b"4"])
        await asyncio.gather(first.future, last.future)
        return model.batches

    assert asyncio.run(ask()) == [1, 1]


def test_failure_of_a_run_is_that_of_its_jobs_only(make_engine):
    class Failing(Recorder):
        def run(self, paths, images):
            if images[0].pixels[0, 0, 0] == 13:
                raise RuntimeError("thirteen")
            return super().run(paths, images)

    async def ask():
        engine, model = make_engine(runners=1), Failing(1)
        bad = _submit(engine, model, [b"13", b"13"])
        good = _submit(engine, model, [b"1"])
        with pytest.raises(RuntimeError, match="thirteen"):
            await bad.future
        return await good.future

    assert asyncio.run(ask()).status == ["ok"]


def test_jobs_of_an_ended_loop_do_no_harm(make_engine):
    engine, model = make_engine(runners=1), Recorder(1)

    async def leave():
        model.go.clear()
        _submit(engine, model, [b"1"])

    asyncio.run(leave())
    model.go.set()

    async def ask():
        return await _submit(engine, model, [b"2"]).future

    assert asyncio.run(ask()).status == ["ok"]


def test_many_loops_share_an_engine(make_engine):
    engine, model = make_engine(runners=2), Recorder(8)

    def ask(number):
        async def one():
            return (await _submit(engine, model, [b"%d" % number]).future).probabilities[0, 0]

        return round(asyncio.run(one()) * 255)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(40))) == list(range(40))
