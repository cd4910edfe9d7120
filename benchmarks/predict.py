"""End-to-end prediction in each runtime and precision, against its ceilings and against others, side by side in a run.

    python benchmarks/predict.py model.onnx IMAGES [--int8 model-int8.onnx] [--openvino] [--draft] [--keras model.keras]
        [--torch] [-o result.json]

A way is a file in a runtime, with `--draft` also on images that the JPEG decoder shrank. Its ceiling is what the same
cores could do with nothing but decoding and the model: 1 / (1 / decode + 1 / session), with the bare decode of all
images on all cores, and the raw session on preloaded arrays in the arrangement of the pipeline or with all cores in one
run, whichever is faster. Every figure is the median of `--repeats` interleaved rounds, so that other work on the
machine disturbs all ways alike. Beside the wall-clock rates stand those per second of processor time, which other work
disturbs less.
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

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


DRAFT = ", draft"


class Way(NamedTuple):
    """A file in a runtime and a precision of the CPU."""

    name: str
    model: str
    device: str
    precision: str
    draft: bool = False

    @property
    def decoding(self) -> str:
        return "decode, draft" if self.draft else "decode"

    @property
    def session(self) -> str:
        return f"{self.name.removesuffix(DRAFT)}, session"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--int8", help="the same model quantised")
    parser.add_argument("--openvino", action="store_true", help="OpenVINO too, in f32 and bf16, and with --int8 that")
    parser.add_argument("--draft", action="store_true", help="every way with `ImagePolicy(draft=True)` too")
    parser.add_argument("--keras", help="the same model as .keras: adds the two ways of Keras")
    parser.add_argument("--torch", action="store_true", help="the same file in PyTorch, compiled, channels last")
    parser.add_argument("--device", default="cpu", help="of the first way")
    parser.add_argument("--batch-size", type=int, help="default: the best by measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each session measurement")
    parser.add_argument("--keras-repeats", type=int, default=3, help="rounds in which Keras and PyTorch take part")
    parser.add_argument("--one-at-a-time", type=int, default=60, help="images for Keras' slow way")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments)
    print(table(result))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def ways_of(arguments: argparse.Namespace) -> list[Way]:
    ways = [Way("ONNX Runtime fp32", arguments.model, arguments.device, "f32")]
    if arguments.int8:
        ways.append(Way("ONNX Runtime int8", arguments.int8, arguments.device, "f32"))
    if arguments.openvino:
        ways.append(Way("OpenVINO f32", arguments.model, "openvino", "f32"))
        ways.append(Way("OpenVINO bf16", arguments.model, "openvino", "bf16"))
        if arguments.int8:
            ways.append(Way("OpenVINO int8", arguments.int8, "openvino", "f32"))
    return ways + [way._replace(name=way.name + DRAFT, draft=True) for way in ways if arguments.draft]


def manifest_of(way: Way):
    from kerasxfer_serving.model.manifest import Manifest

    manifest = Manifest.read(way.model)
    return replace(manifest, policy=replace(manifest.policy, draft=way.draft))


def measure(arguments: argparse.Namespace) -> dict:
    from kerasxfer_serving.predictor import Predictor
    from kerasxfer_serving.runtime.tuning import best_batch_size

    predictors = {}
    for way in ways_of(arguments):
        predictors[way] = Predictor(
            way.model,
            device=way.device,
            cpu_precision=way.precision,
            threads=1,
            batch_size=arguments.batch_size,
            manifest=manifest_of(way),
        )
        if arguments.batch_size is None:
            best_batch_size(predictors[way])
    first = next(iter(predictors.values()))
    steps: dict[str, Callable[[], tuple[int, float, float]]] = {}
    for way, predictor in predictors.items():
        steps.setdefault(way.decoding, lambda predictor=predictor: decode_rate(predictor, arguments.images))
        steps.setdefault(way.session, lambda way=way, predictor=predictor: session_rate(arguments, way, predictor))
        steps[f"{way.name}, end to end"] = lambda predictor=predictor: end_to_end_rate(predictor, arguments.images)
    peers = {}
    if arguments.torch:
        peers["PyTorch, session"] = lambda: torch_rate(arguments)
    if arguments.keras:
        peers["Keras, dataset + predict"] = lambda: keras_rate(arguments, first, "dataset")
        peers["Keras, one at a time"] = lambda: keras_rate(arguments, first, "single")
    samples: dict[str, list[float]] = {}
    per_cpu: dict[str, list[float]] = {}
    for number in range(arguments.repeats):
        for name, step in (steps | (peers if number < arguments.keras_repeats else {})).items():
            images, seconds, cpu_seconds = step()
            samples.setdefault(name, []).append(images / seconds)
            per_cpu.setdefault(name, []).append(images / cpu_seconds)
            print(f"{name}: {samples[name][-1]:.1f}/s, {per_cpu[name][-1]:.1f} per CPU second", file=sys.stderr)
    rates = {name: statistics.median(values) for name, values in samples.items()}
    cpu_rates = {name: statistics.median(values) for name, values in per_cpu.items()}
    return {
        "command": " ".join(["benchmarks/predict.py", *(Path(word).name for word in sys.argv[1:])]),
        "machine": {"processor": processor(), "cores": first.workers, "python": platform.python_version()},
        "images": len(list(read_folder(arguments.images))),
        "batch_sizes": {way.name: predictor.batch_size for way, predictor in predictors.items()},
        "sessions": {way.name: predictor.session.describe() for way, predictor in predictors.items()},
        "images_per_second": rates,
        "images_per_cpu_second": cpu_rates,
        "samples": samples,
        "ways": {way.name: figures(way, rates, cpu_rates, predictor) for way, predictor in predictors.items()},
    }


def figures(way: Way, rates: dict, cpu_rates: dict, predictor) -> dict:
    """What a way is to its ceiling, to bare decode, and to the others."""
    parts = f"{way.name}, end to end", way.session, way.decoding
    whole, session, decode = (rates[part] for part in parts)
    ceiling = 1 / (1 / decode + 1 / session) if predictor.on_cpu else decode  # on a GPU decoding has all the cores
    whole_cpu, session_cpu, decode_cpu = (cpu_rates[part] for part in parts)
    others = [other for other in rates if other.startswith("Keras") or other == "ONNX Runtime fp32, end to end"]
    return {
        "ceiling": ceiling,
        "share_of_ceiling": whole / ceiling,
        "share_of_ceiling_by_cpu_time": whole_cpu * (1 / decode_cpu + 1 / session_cpu),
        "share_of_decode": whole / rates["decode"],
        "share_of_decode_by_cpu_time": whole_cpu / cpu_rates["decode"],
        "times": {other: whole / rates[other] for other in others}
        | {
            f"session of {other}": session / rates[f"{other}, session"]
            for other in ("ONNX Runtime fp32", "PyTorch")
            if f"{other}, session" in rates
        },
        "times_by_cpu_time": {other: whole_cpu / cpu_rates[other] for other in others},
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


def session_rate(arguments: argparse.Namespace, way: Way, predictor) -> tuple[int, float, float]:
    """The faster of: one run with all cores, and a run per core with one thread each."""
    from kerasxfer_serving.runtime.opening import open_session
    from kerasxfer_serving.runtime.resources import available_cores

    cores = available_cores()
    shape = (predictor.batch_size, *predictor.manifest.image_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if not predictor.on_cpu:
        return bound_rate(predictor.session, images, arguments.seconds)
    rates = []
    for threads, lanes in ((cores, 1), (1, cores)):
        session = open_session(way.model, way.device, cpu_precision=way.precision, threads=threads)
        rates.append(lanes_rate(session, images, lanes, arguments.seconds / 2))
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
    return peer_rate("-c", KERAS, arguments.keras, arguments.images, size, mode, str(arguments.one_at_a_time))


def torch_rate(arguments: argparse.Namespace) -> tuple[int, float, float]:
    script = Path(__file__).with_name("torch_onnx.py")
    return peer_rate(str(script), arguments.model, "--seconds", str(arguments.seconds))


def peer_rate(*command: str) -> tuple[int, float, float]:
    output = subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True).stdout
    images, seconds, cpu_seconds = output.rpartition("RATE")[2].split()
    return int(images), float(seconds), float(cpu_seconds)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def table(result: dict) -> str:
    per_cpu = result["images_per_cpu_second"]
    lines = [f"{rate:10.1f} {per_cpu[name]:11.1f}  {name}" for name, rate in result["images_per_second"].items()]
    for name, way in result["ways"].items():
        lines.append(
            f"{name}: {way['share_of_ceiling']:.3f} of its ceiling of {way['ceiling']:.1f} images/s, by processor"
        )
        lines[-1] += f" time {way['share_of_ceiling_by_cpu_time']:.3f}; {way['share_of_decode']:.2f} of bare decode, by"
        lines[-1] += f" processor time {way['share_of_decode_by_cpu_time']:.2f}"
        lines += [f"{ratio:9.2f}×  {other}" for other, ratio in way["times"].items()]
        lines += [f"{ratio:9.2f}×  {other}, by processor time" for other, ratio in way["times_by_cpu_time"].items()]
    return "\n".join([f"{'images/s':>10} {'per CPU s':>11}  what", *lines])


if __name__ == "__main__":
    main()
