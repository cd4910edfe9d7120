"""`--batch-size auto`: the smallest batch that is about as fast as any, by a short measurement."""

import time

import numpy as np

from kerasxfer_serving.predictor import Predictor

_SIZES = {"cpu": (1, 2, 4, 8, 16), "gpu": (16, 32, 64, 128, 256)}
_SECONDS = 0.25
_CLOSE_ENOUGH = 0.97


def best_batch_size(predictor: Predictor) -> int:
    """Measure the model at several batch sizes and choose.

    A batch larger than needed costs memory, once for every run at a time, and latency.

    Args:
        predictor: the model; its `batch_size` is set to the result.

    Returns:
        The smallest size within 3 % of the fastest, or the model's own where that is fixed.
    """
    if predictor.session.fixed_batch is None:
        sizes = _SIZES["cpu" if predictor.device == "cpu" else "gpu"]
        rates = {size: _rate(predictor, size) for size in sizes}
        enough = _CLOSE_ENOUGH * max(rates.values())
        predictor.batch_size = next(size for size, rate in rates.items() if rate >= enough)
    return predictor.batch_size


def _rate(predictor: Predictor, size: int) -> float:
    images = np.zeros((size, *predictor.manifest.image_size, 3), np.uint8)
    predictor.run(images, threads=predictor.stream_threads)  # allocates, and on a GPU searches for algorithms
    runs, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _SECONDS:
        predictor.run(images, threads=predictor.stream_threads)
        runs += 1
    return runs * size / elapsed
