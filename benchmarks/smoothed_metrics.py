"""What `SmoothedMetricsLogger(per_batch=True)` costs in a step, beside the same training without it.

The step is a fast one on purpose: a small dense network, a batch of 32, compiled. Epochs with and without the callback
take turns, so that both meet the same state of the machine. On a busy machine the ratio of the medians says little
(look at the range beside them); the time spent in the callback itself, measured apart, still does.

    KERAS_BACKEND=jax python benchmarks/smoothed_metrics.py
"""

import argparse
import statistics
import time

import keras
import numpy as np

from kerasxfer.callbacks import SmoothedMetricsLogger


def make_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(256, "relu"), keras.layers.Dense(256, "relu"), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
    return model


def seconds_per_step(model: keras.Model, x: np.ndarray, y: np.ndarray, callbacks: list) -> float:
    start = time.perf_counter()
    model.fit(x, y, batch_size=32, epochs=1, verbose=0, shuffle=False, callbacks=callbacks)
    return (time.perf_counter() - start) / (len(x) // 32)


def own_seconds_per_step(model: keras.Model, steps: int, repeats: int = 9) -> float:
    """CPU time of the callback alone: taking note of each batch, and folding all of them in at the end."""
    logger = SmoothedMetricsLogger(per_batch=True)
    logger.set_model(model)
    times = []
    for _ in range(repeats):
        logger.on_train_begin()
        logger.on_epoch_begin(0)
        start = time.process_time()
        for step in range(steps):
            logger.on_train_batch_end(step, {"accuracy": 0.5, "loss": 1.0})
        logger.on_epoch_end(0, {"accuracy": 0.5, "loss": 1.0})
        times.append((time.process_time() - start) / steps)
    return statistics.median(times)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=2000, help="in an epoch")
    arguments.add_argument("--repeats", type=int, default=9, help="epochs of each kind")
    options = arguments.parse_args()

    rng = np.random.default_rng(0)
    x = rng.normal(size=(32 * options.steps, 64)).astype("float32")
    y = rng.integers(0, 10, len(x))
    model = make_model()
    kinds = {"without": lambda: [], "with": lambda: [SmoothedMetricsLogger(per_batch=True)]}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for make_callbacks in kinds.values():
        seconds_per_step(model, x, y, make_callbacks())  # compiles
    for _ in range(options.repeats):
        for kind, make_callbacks in kinds.items():
            times[kind].append(seconds_per_step(model, x, y, make_callbacks()))
    median = {kind: statistics.median(values) for kind, values in times.items()}
    for kind, values in times.items():
        print(f"{kind:8} {1e6 * median[kind]:8.1f} µs a step (from {1e6 * min(values):.1f} to {1e6 * max(values):.1f})")
    print(f"backend {keras.backend.backend()}: ratio of the medians {median['with'] / median['without']:.4f}")
    own, step = own_seconds_per_step(model, options.steps), min(times["without"])
    print(f"in the callback itself: {1e6 * own:.2f} µs, {100 * own / step:.2f} % of the fastest step without it")


if __name__ == "__main__":
    main()
