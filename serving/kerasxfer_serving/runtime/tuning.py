"""`--batch-size auto`: the smallest batch that is about as fast as any, by a short measurement."""

import time

import numpy as np

from kerasxfer_serving.predictor import Predictor

_SIZES = (1, 2, 4, 8, 16)
_SECONDS = 0.25
_CLOSE_ENOUGH = 0.97


def best_batch_size(predictor: Predictor) -> int:
    """Measure the model on the CPU at several batch sizes and choose.

    A batch larger than needed costs memory, once for every run at a time, and latency. A GPU keeps its batch size: it
    would search its algorithms, or build its engine, anew for every size.

    Args:
        predictor: The model; its `batch_size` is set to the result.

    Returns:
        The smallest size within 3 % of the fastest, or the size that is fixed.
    """
    if predictor.session.fixed_batch is None:
        rates = {size: _rate(predictor, size) for size in _SIZES}
        enough = _CLOSE_ENOUGH * max(rates.values())
        predictor.batch_size = next(size for size, rate in rates.items() if rate >= enough)
    return predictor.batch_size


def _rate(predictor: Predictor, size: int) -> float:
    images = np.zeros((size, *predictor.manifest.image_size, 3), np.uint8)
    predictor.run(images, threads=predictor.stream_threads)  # allocates
    runs, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _SECONDS:
        predictor.run(images, threads=predictor.stream_threads)
        runs += 1
    return runs * size / elapsed
