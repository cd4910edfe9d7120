"""What is measured: decoding, the device, and both together, by MLPerf's names.

Offline is throughput with everything at hand; SingleStream is the latency of one image at a time.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from kerasxfer_serving.benchmarking.data import BenchmarkImages
from kerasxfer_serving.benchmarking.measuring import Measurement, Rules, concurrently, measure
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.predictor import Predictor
from kerasxfer_serving.runtime.resources import available_cores


def decode_rates(images: BenchmarkImages, predictor: Predictor, duration: float, rules: Rules) -> Iterator[Measurement]:
    """Decode alone, then decode and resize: what the files give on all cores, with no model."""
    policy, items = predictor.manifest.policy, images.items

    def decode(size: tuple[int, int] | None, number: int) -> int:
        try:
            policy.decode(items[number % len(items)].open(), size)
        except ImageError:
            return 0
        return 1

    for name, size in (("decode", None), ("decode_resize", predictor.manifest.image_size)):
        yield measure(concurrently(partial(decode, size), available_cores()), name, duration=duration, rules=rules)


def device_rates(predictor: Predictor, duration: float, rules: Rules) -> Iterator[Measurement]:
    """The model on pixels that lie ready: its throughput, and the latency of one batch at a time."""
    batch = predictor.batch_size
    images = np.random.default_rng(0).integers(0, 256, (batch, *predictor.manifest.image_size, 3), "uint8")

    def run(number: int) -> int:
        predictor.run(images, threads=predictor.stream_threads)
        return batch

    if predictor.on_cpu:  # several runs at once, as the pipeline has them
        work = concurrently(run, predictor.workers)
    else:
        work = _repeated(predictor.session.bind(images), batch)
    yield measure(work, "device", batch, duration=duration, rules=rules)
    yield measure(_repeated(partial(predictor.run, images), batch), "latency", batch, duration=duration, rules=rules)


def offline(predictor: Predictor, images: BenchmarkImages, duration: float, rules: Rules) -> Measurement:
    """Files in, answers out, through the whole pipeline; images that cannot be read do not count."""
    work = (images.note(predictions) for predictions in predictor.stream(images.endless()))
    return measure(work, "end_to_end", predictor.batch_size, duration=duration, rules=rules)


def single_stream(predictor: Predictor, images: BenchmarkImages, duration: float, rules: Rules) -> Measurement:
    """One file after the other, each answered before the next is opened."""
    work = (images.note(predictor.predict_batch([item])) for item in images.endless())
    return measure(work, "single_stream", 1, duration=duration, rules=rules)


def _repeated(run: Callable[[], object], images: int) -> Iterator[int]:
    while True:
        run()
        yield images
