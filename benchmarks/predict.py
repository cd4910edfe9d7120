"""End-to-end prediction against its ceilings and against Keras, side by side in one run.

    python benchmarks/predict.py model.onnx IMAGES [--keras model.keras] [--int8 model-int8.onnx] [-o result.json]

The ceiling is what the same cores could do with nothing but decoding and the model: 1 / (1 / decode + 1 / session),
with the bare decode of all images on all cores, and the raw ONNX Runtime session on preloaded arrays, in whichever of
two arrangements is faster. Every figure is the median of `--repeats` interleaved rounds. Beside the wall-clock rates
stand those per second of processor time, which other work on the machine disturbs less.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

WAYS_OF_KERAS = ("dataset + predict", "one at a time")
KERAS = """
import sys, time, json, os
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
import keras, numpy as np
try:
    import kerasxfer
except ImportError:
    pass
model_path, folder, size, mode, count = sys.argv[1:]
size, count = tuple(map(int, size.split("x"))), int(count)
model = keras.saving.load_model(model_path, compile=False)
model.predict(np.zeros((32 if mode == "dataset" else 1, *size, 3), "float32"), verbose=0)
if mode == "dataset":
    data = keras.utils.image_dataset_from_directory(folder, image_size=size, shuffle=False, batch_size=32, verbose=0)
    started, cpu = time.perf_counter(), time.process_time()
    done = len(model.predict(data, verbose=0))
else:
    paths = [os.path.join(d, f) for d, _, fs in sorted(os.walk(folder)) for f in sorted(fs)][:count]
    started, cpu = time.perf_counter(), time.process_time()
    for path in paths:
        image = keras.utils.img_to_array(keras.utils.load_img(path, target_size=size))
        model.predict(image[None], verbose=0)
    done = len(paths)
print("RATE", done, time.perf_counter() - started, time.process_time() - cpu)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--keras", help="the same model as .keras: adds the two ways of Keras")
    parser.add_argument("--int8", help="the same model quantised: adds its end-to-end rate")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, help="default: the best by measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each session measurement")
    parser.add_argument("--keras-repeats", type=int, default=3, help="rounds in which Keras takes part")
    parser.add_argument("--one-at-a-time", type=int, default=60, help="images for Keras' slow way")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments)
    print(table(result))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def measure(arguments: argparse.Namespace) -> dict:
    from kerasxfer_serving.predictor import Predictor
    from kerasxfer_serving.runtime.tuning import best_batch_size

    def opened(model: str) -> Predictor:
        predictor = Predictor(model, device=arguments.device, threads=1, batch_size=arguments.batch_size)
        if arguments.batch_size is None:
            best_batch_size(predictor)
        return predictor

    predictor = opened(arguments.model)
    steps = {
        "decode": lambda: decode_rate(predictor, arguments.images),
        "session": lambda: session_rate(arguments, predictor),
        "end to end": lambda: end_to_end_rate(predictor, arguments.images),
    }
    if arguments.int8:
        int8 = opened(arguments.int8)
        steps["end to end int8"] = lambda: end_to_end_rate(int8, arguments.images)
    if arguments.keras:
        steps["dataset + predict"] = lambda: keras_rate(arguments, predictor, "dataset")
        steps["one at a time"] = lambda: keras_rate(arguments, predictor, "single")
    samples: dict[str, list[float]] = {name: [] for name in steps}
    per_cpu: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(arguments.repeats):
        for name, step in steps.items():
            if name in WAYS_OF_KERAS and number >= arguments.keras_repeats:
                continue
            images, seconds, cpu_seconds = step()
            samples[name].append(images / seconds)
            per_cpu[name].append(images / cpu_seconds)
            print(f"{name}: {samples[name][-1]:.1f}/s, {per_cpu[name][-1]:.1f} per CPU second", file=sys.stderr)
    rates = {name: statistics.median(values) for name, values in samples.items()}
    cpu_rates = {name: statistics.median(values) for name, values in per_cpu.items()}
    ceiling = rates["decode"]
    if arguments.device == "cpu":  # on a GPU, decoding has the cores to itself
        ceiling = 1 / (1 / rates["decode"] + 1 / rates["session"])
    return {
        "command": " ".join(["benchmarks/predict.py", *(Path(word).name for word in sys.argv[1:])]),
        "machine": {"processor": processor(), "cores": predictor.workers, "python": platform.python_version()},
        "session": predictor.session.describe(),
        "batch_size": predictor.batch_size,
        "images": len(list(read_folder(arguments.images))),
        "images_per_second": rates,
        "images_per_cpu_second": cpu_rates,
        "samples": samples,
        "ceiling": ceiling,
        "share_of_ceiling": rates["end to end"] / ceiling,
        "share_of_ceiling_by_cpu_time": cpu_rates["end to end"] * (1 / cpu_rates["decode"] + 1 / cpu_rates["session"]),
        "share_of_decode": rates["end to end"] / rates["decode"],
        "times_faster_than": {
            f"{way}{' int8' * (name == 'end to end int8')}": rates[name] / rates[way]
            for name in ("end to end", "end to end int8")
            for way in WAYS_OF_KERAS
            if name in rates and way in rates
        },
    }


def read_folder(folder: str):
    from kerasxfer_serving.inputs.reader import Reader

    return Reader([folder])


class Clock:
    """Images, seconds and seconds of processor time since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def rate(self, images: int) -> tuple[int, float, float]:
        return images, time.perf_counter() - self._started[0], time.process_time() - self._started[1]


def decode_rate(predictor, folder: str) -> tuple[int, float, float]:
    items = list(read_folder(folder))
    clock = Clock()
    with ThreadPoolExecutor(predictor.workers) as pool:
        list(pool.map(predictor.decode, items, chunksize=8))
    return clock.rate(len(items))


def session_rate(arguments: argparse.Namespace, predictor) -> tuple[int, float, float]:
    """The faster of: one run with all cores, and a run per core with one thread each."""
    from kerasxfer_serving.runtime.opening import open_session
    from kerasxfer_serving.runtime.threads import available_cores

    cores = available_cores()
    shape = (predictor.batch_size, *predictor.manifest.image_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if arguments.device != "cpu":
        return bound_rate(predictor.session, images, arguments.seconds)
    arrangements = [(cores, 1), (1, cores)]
    sessions = [(open_session(arguments.model, "cpu", threads=threads), lanes) for threads, lanes in arrangements]
    rates = [lanes_rate(session, images, lanes, arguments.seconds / 2) for session, lanes in sessions]
    return max(rates, key=lambda rate: rate[0] / rate[1])


def bound_rate(session, images, seconds: float) -> tuple[int, float, float]:
    """With the pixels on the device already."""
    run = session.bind(images)
    for _ in range(10):
        run()
    runs, clock, end = 0, Clock(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        run()
        runs += 1
    return clock.rate(runs * len(images))


def lanes_rate(session, images, lanes: int, seconds: float) -> tuple[int, float, float]:
    session.run(images)
    counts = [0] * lanes
    clock, end = Clock(), time.perf_counter() + seconds

    def work(lane: int) -> None:
        while time.perf_counter() < end:
            session.run(images)
            counts[lane] += len(images)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clock.rate(sum(counts))


def end_to_end_rate(predictor, folder: str) -> tuple[int, float, float]:
    """From the folder to the finished CSV file."""
    return end_to_end(predictor, read_folder(folder))[0]


def end_to_end(engine, reader) -> tuple[tuple[int, float, float], bytes]:
    """The rate of an engine from a reader's inputs to a finished CSV file, and what is in it."""
    from kerasxfer_serving.outputs.destination import Destination
    from kerasxfer_serving.outputs.predictions import columns
    from kerasxfer_serving.outputs.writer import PartWriter
    from kerasxfer_serving.pipeline import predict_to

    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out.csv"
        clock = Clock()
        writer = PartWriter(Destination(out, "csv"), columns(engine.manifest.class_names), run={}, versions={})
        summary = predict_to(engine, reader, writer)
        return clock.rate(summary.done), out.read_bytes()


def keras_rate(arguments: argparse.Namespace, predictor, mode: str) -> tuple[int, float, float]:
    """In a process of its own, without the time to load: Keras and ONNX Runtime share no thread pool."""
    size = "x".join(map(str, predictor.manifest.image_size))
    command = [
        sys.executable,
        "-c",
        KERAS,
        arguments.keras,
        arguments.images,
        size,
        mode,
        str(arguments.one_at_a_time),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    images, seconds, cpu_seconds = output.rpartition("RATE")[2].split()
    return int(images), float(seconds), float(cpu_seconds)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def table(result: dict) -> str:
    lines = [
        f"{'images/s':>10}  what",
        *(f"{rate:10.1f}  {name}" for name, rate in result["images_per_second"].items()),
    ]
    lines.append(f"{result['ceiling']:10.1f}  ceiling; end to end is {result['share_of_ceiling']:.3f} of it")
    lines.append(f"{result['share_of_ceiling_by_cpu_time']:10.3f}  of it by processor time")
    lines.append(f"{result['share_of_decode']:10.3f}  end to end / bare decode")
    lines += [f"{ratio:9.2f}×  faster than {way}" for way, ratio in result["times_faster_than"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
