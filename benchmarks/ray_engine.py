"""The Ray engine of `predict` against the local one, on the same cores and images, and how it scales.

    python benchmarks/ray_engine.py model.onnx IMAGES -o benchmarks/results/ray.md

The two engines alternate within one run and write the same files. Starting Ray and the first predictor is timed apart.
For scaling, where cores lack, Ray is told of eight GPUs that are not there, and a stage that sleeps stands in for the
model; listing, decoding, the driver and the writer are the real ones.
"""

import argparse
import platform
import statistics
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path

import numpy as np
from kerasxfer_serving import Predictor
from kerasxfer_serving.cluster import pool as ray_pool
from kerasxfer_serving.cluster import ray as ray_cluster
from kerasxfer_serving.cluster.engine import RayPredictor
from kerasxfer_serving.cluster.workers import PredictorWorker
from kerasxfer_serving.inputs.reader import Reader
from kerasxfer_serving.runtime.resources import available_cores
from onnx_models import Graph
from PIL import Image
from predict import end_to_end

SLEEP = 0.5
"""Seconds that a chunk of 64 images takes the stage that stands in for the model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3, help="of the comparison; 0 leaves it out")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8], help="no number leaves scaling out")
    parser.add_argument("--chunks", type=int, default=16, help="for each predictor that sleeps")
    parser.add_argument("-o", "--out", type=Path, help="appended to")
    arguments = parser.parse_args()
    paths = [item.path for item in islice(Reader([arguments.images]), arguments.count)]
    lines = compare(arguments, paths) if arguments.repeats else []
    lines += scale(arguments) if arguments.workers else []
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        with arguments.out.open("a") as file:
            file.write(text)


def compare(arguments: argparse.Namespace, paths: list[str]) -> list[str]:
    options = {"device": "cpu", "threads": 1, "batch_size": arguments.batch_size}
    local = Predictor(arguments.model, **options)
    started = time.perf_counter()
    with ray_cluster.start() as ray, RayPredictor(ray, arguments.model, **options) as cluster:
        first = time.perf_counter() - started
        warm_up(cluster, paths[:256], workers=available_cores())
        ready = time.perf_counter() - started
        run(local, paths[:64])
        rounds = [(run(local, paths), run(cluster, paths)) for _ in range(arguments.repeats)]
    assert len({written for of_engine in rounds for _, _, written in of_engine}) == 1, "the rows differ"
    rates = [[rate for rate, _, _ in of_engine] for of_engine in zip(*rounds, strict=True)]
    ratio = statistics.median(theirs / mine for mine, theirs in zip(*rates, strict=True))
    return [
        f"## {Path(arguments.model).stem}, {len(paths):,} images, {available_cores()} cores, {platform.machine()}",
        "",
        "| engine | images/s, by round | median |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {', '.join(f'{rate:.1f}' for rate in of_engine)} | {statistics.median(of_engine):.1f} |"
            for name, of_engine in zip(("local", "ray"), rates, strict=True)
        ),
        "",
        f"Ratio Ray / local: **{ratio:.2f}** (median of the rounds; target 0.8). The rows are equal byte for byte. "
        f"Starting Ray and the first predictor: {first:.1f} s; until all predictors were warm: {ready:.1f} s.",
        "",
    ]


def warm_up(cluster: RayPredictor, paths: list[str], *, workers: int) -> None:
    """Until every predictor is there and has been at work."""
    while len(cluster._pool.workers) < workers:
        for _ in cluster.stream(Reader(paths)):
            pass
    for _ in cluster.stream(Reader(paths)):
        pass


def run(engine, paths: list[str]) -> tuple[float, float, bytes]:
    """Images per second, processor seconds of this process per image, and the file written."""
    (done, seconds, busy), written = end_to_end(engine, Reader(paths))
    return done / seconds, busy / done, written


class SleepingWorker(PredictorWorker):
    """A predictor that takes as long as a GPU would, and no core."""

    def open(self, *arguments):
        self._gpu = threading.Lock()
        return super().open(*arguments)

    def predict(self, paths, *pieces):
        with self._gpu:
            time.sleep(SLEEP * len(paths) / 64)
        return super().predict(paths, *pieces)


def scale(arguments: argparse.Namespace) -> list[str]:
    ray = ray_cluster.import_ray()
    ray_pool.PredictorWorker = SleepingWorker
    ray.init(
        num_cpus=available_cores(),
        num_gpus=max(arguments.workers),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "small.png"
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(image)
        model = tiny_model(Path(folder) / "tiny.onnx")
        runs = [sleeping_run(ray, model, str(image), workers, arguments.chunks) for workers in arguments.workers]
    ray.shutdown()
    one = runs[0][0] / arguments.workers[0]
    return [
        f"## Scaling, simulated: predictors of {64 / SLEEP:.0f} images/s, {available_cores()} cores for the rest",
        "",
        "| predictors | images/s | efficiency (target 0.9) | driver, processor µs an image |",
        "| --- | --- | --- | --- |",
        *(
            f"| {workers} | {rate:.0f} | {rate / workers / one:.3f} | {1e6 * driver:.0f} |"
            for workers, (rate, driver) in zip(arguments.workers, runs, strict=True)
        ),
        "",
    ]


def sleeping_run(ray, model: Path, image: str, workers: int, chunks: int) -> tuple[float, float]:
    """Images per second, and processor seconds of the driver per image."""
    options = {"device": "cpu", "batch_size": 64, "num_workers": workers, "gpus_per_worker": 1.0}
    with RayPredictor(ray, model, **options) as cluster:
        warm_up(cluster, [image] * 128 * workers, workers=workers)
        rate, busy, _ = run(cluster, [image] * 64 * chunks * workers)
        return rate, busy


def tiny_model(path: Path) -> Path:
    """The mean of the image, as a classifier: next to no arithmetic."""
    graph = Graph("float32")
    mean = graph.add("Flatten", [graph.add("GlobalAveragePool", [graph.pixels()])])
    return graph.save(path, 16, mean, classes=3)


if __name__ == "__main__":
    main()
