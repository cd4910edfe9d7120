"""Every figure of a GPU, by one command; makes its own models and, unless given some, its own images.

    python benchmarks/gpu.py -o benchmarks/results/gpu.json [--images FOLDER] [--trained MODEL.onnx] [--steps …]

Steps, each in a process of its own with a limit of its own, so that one that hangs costs itself only:

    prepare   VGG16@224 and InceptionV3@299 as ONNX files in float16 and float32, JPEG files of 500 × 375
    peers     the same networks in PyTorch on the same card, and the card's own limits (`torch_models.py`)
    proof     nodes by provider; difference from the CPU's answers, float32 with TF32 on and off, and float16
    device    images a second with the pixels on the card: provider options, batch sizes, lanes, CUDA graphs
    graph     the same with the changes to the graph that `runtime/gpu_graph.py` makes, one by one and together
    decode    Pillow, `--draft`, simplejpeg and nvImageCodec on the same files; their pixels' distance from Pillow's
    scaling   Pillow by number of cores, in threads and in processes
    whole     from JPEG files to a CSV file, with Pillow and with the GPU's decoder; a trained model's answers with both
    profile   where the card's time goes, by kernel (PyTorch's profiler sees every kernel of the process)
    training  `bottleneck_cache.py` with JAX and PyTorch
    tests     the tests marked `gpu`

Results are kept in `--work`, so that steps can be run one by one; the table at the end is made of all that is there.
Nothing but NumPy, onnx, onnxruntime-gpu and Pillow is needed for ours; the peers need PyTorch and torchvision.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
# In seconds.
LIMITS = {
    "prepare": 90,
    "peers": 240,
    "proof": 60,
    "device": 200,
    "graph": 90,
    "decode": 60,
    "scaling": 60,
    "whole": 120,
    "profile": 40,
    "training": 150,
    "tests": 90,
}
MODELS = {"VGG16@224": ("vgg16", 224, 30.9, 13_000), "InceptionV3@299": ("inception_v3", 299, 11.5, 21_000)}
OPTIONS = {
    "as ONNX Runtime": {},
    "exhaustive": {"cudnn_conv_algo_search": "EXHAUSTIVE"},
    "nhwc": {"prefer_nhwc": 1},
    "nhwc, bias": {"prefer_nhwc": 1, "fuse_conv_bias": 1},
    "nhwc, bias, heuristic": {"prefer_nhwc": 1, "fuse_conv_bias": 1, "cudnn_conv_algo_search": "HEURISTIC"},
    "nhwc, small workspace": {"prefer_nhwc": 1, "cudnn_conv_use_max_workspace": 0},
}
WAYS = {
    "Pillow in threads": {"decode_processes": 0},
    "Pillow in processes": {},
    "the GPU": {"decode": "gpu"},
}
BATCHES = (32, 64, 128, 256)
FILES = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default=",".join(LIMITS), help="comma-separated")
    parser.add_argument("--work", type=Path, default=Path("gpu-work"), help="keeps models, images and results")
    parser.add_argument("--images", type=Path, help="folder of JPEG files to measure with; default: drawn ones")
    parser.add_argument("--trained", type=Path, help="a trained model, to compare its answers with both decoders")
    parser.add_argument("--device", default="cuda", help="`cpu` tries the script where there is no GPU")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.inside:
        result = globals()[arguments.inside](arguments)
        (arguments.work / f"{arguments.inside}.json").write_text(json.dumps(result, indent=1, default=str))
        return
    for step in filter(None, arguments.steps.split(",")):
        run(step, arguments)
    result = collected(arguments.work)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def run(step: str, arguments: argparse.Namespace) -> None:
    started = time.perf_counter()
    command = [sys.executable, __file__, *sys.argv[1:], "--inside", step]
    log = arguments.work / f"{step}.log"
    with log.open("w") as file:
        try:
            code = subprocess.run(command, stdout=file, stderr=file, timeout=LIMITS[step], check=False).returncode
        except subprocess.TimeoutExpired:
            code = f"stopped after {LIMITS[step]} s"
    print(f"{step}: {time.perf_counter() - started:.0f} s, {'ok' if code == 0 else code}", flush=True)
    if code != 0:
        print("\n".join(log.read_text(errors="replace").splitlines()[-12:]), flush=True)


def collected(work: Path) -> dict:
    found = {step: work / f"{step}.json" for step in LIMITS}
    return {step: json.loads(path.read_text()) for step, path in found.items() if path.exists()}


# Steps


def prepare(arguments: argparse.Namespace) -> dict:
    import onnx_models

    for (build, size, _, _), dtype in product(MODELS.values(), ("float16", "float32")):
        getattr(onnx_models, build)(model_path(arguments, build, dtype), size, dtype)
    folder = arguments.work / "images"
    if not folder.exists():
        draw(folder, arguments.images, arguments.files)
    return {"images": sizes_of(folder)}


def peers(arguments: argparse.Namespace) -> dict:
    out = arguments.work / "torch.json"
    command = [sys.executable, str(HERE / "torch_models.py"), "-o", str(out), "--seconds", str(arguments.seconds)]
    try:
        subprocess.run(command, check=False, timeout=LIMITS["peers"] - 10)
    except subprocess.TimeoutExpired:
        print("PyTorch: out of time")
    return json.loads(out.read_text())


def proof(arguments: argparse.Namespace) -> dict:
    from kerasxfer_serving.predictor import Predictor

    result: dict[str, object] = {"machine": machine()}
    for name, (build, _, _, _) in MODELS.items():
        cases = {"fp32, TF32 on": ("float32", True), "fp32, TF32 off": ("float32", False), "fp16": ("float16", True)}
        reference = None
        for case, (dtype, tf32) in cases.items():
            path = model_path(arguments, build, dtype)
            started = time.perf_counter()
            with Predictor(path, device=arguments.device, batch_size=8, tf32=tf32) as predictor:
                opened = time.perf_counter() - started
                images = random_images(predictor.manifest.image_size, 8)
                answers = predictor.run(images)[0]
                if reference is None:
                    with Predictor(path, device="cpu", batch_size=8) as cpu:
                        reference = cpu.run(images)[0]
                session = predictor.describe_session()
                result[f"{name}, {case}"] = {
                    "seconds_to_open": opened,
                    "difference_from_cpu_fp32": float(np.abs(answers - reference).max()),
                    "largest_probability": float(reference.max()),
                    "placement": session["placement"],
                    "providers": session["providers"],
                }
    return result


def device(arguments: argparse.Namespace) -> dict:
    """Options at one batch size, in float16; then the best: by batch size, in two lanes, as a graph, in float32."""
    result = {}
    for name, (build, size, _, _) in MODELS.items():
        rates: dict[str, object] = {}
        result[name] = {"rates": rates, "best": {}}
        half = model_path(arguments, build, "float16").read_bytes()

        def note(key, *args, name=name, rates=rates, size=size, **kwargs):
            try:
                rates[key] = device_rate(arguments, *args, size=size, **kwargs)
            except Exception as error:
                rates[key] = f"{type(error).__name__}: {error}"[:300]
            print(name, key, rates[key], flush=True)

        for option, values in OPTIONS.items():
            note(f"{option}, batch 128", half, values, 128)
        known = {option: rates[f"{option}, batch 128"] for option in OPTIONS}
        best = max((option for option in OPTIONS if isinstance(known[option], float)), key=known.__getitem__)
        values = OPTIONS[best]
        for batch in BATCHES:
            if batch != 128:
                note(f"{best}, batch {batch}", half, values, batch)
        note(f"{best}, two lanes, batch 128", half, values, 128, lanes=2)
        note(f"{best}, graph, batch 128", half, {**values, "enable_cuda_graph": 1}, 128)
        note(f"{best}, graph, batch 1", half, {**values, "enable_cuda_graph": 1}, 1)
        note(f"{best}, batch 1", half, values, 1)
        single = model_path(arguments, build, "float32").read_bytes()
        note(f"fp32, {best}, batch 128", single, values, 128)
        note("fp32, as ONNX Runtime, batch 128", single, {}, 128)
        note(f"fp32, TF32 off, {best}, batch 128", single, {**values, "use_tf32": 0}, 128)
        result[name]["best"] = {"option": best, "values": values}
        (arguments.work / "device.json").write_text(json.dumps(result, indent=1))
    return result


def graph(arguments: argparse.Namespace) -> dict:
    from kerasxfer_serving.runtime.gpu_graph import CHANGES
    from kerasxfer_serving.runtime.onnxruntime_session import CUDA_OPTIONS

    sets = {"none": (), **{name: (name,) for name in CHANGES}, "all": tuple(CHANGES)}
    result: dict[str, dict] = {}
    for name, (build, size, _, _) in MODELS.items():
        half = model_path(arguments, build, "float16").read_bytes()
        rates = result[name] = {}
        for key, names in sets.items():
            rates[key] = device_rate(arguments, changed(half, names), CUDA_OPTIONS, 128, size=size)
            print(name, key, rates[key], flush=True)
        for batch, lanes in ((256, 1), (256, 2), (32, 1)):
            model = changed(half, CHANGES)
            key = f"all, batch {batch}, lanes {lanes}"
            rates[key] = device_rate(arguments, model, CUDA_OPTIONS, batch, size=size, lanes=lanes)
        (arguments.work / "graph.json").write_text(json.dumps(result, indent=1))
    return result


def scaling(arguments: argparse.Namespace) -> dict:
    from kerasxfer_serving.image_io.processes import DecodingProcesses
    from kerasxfer_serving.images import ImagePolicy
    from kerasxfer_serving.inputs.input import given_input

    size, policy = (224, 224), ImagePolicy()
    paths = sorted(str(path) for path in (arguments.work / "images").iterdir())
    everywhere = os.sched_getaffinity(0)
    result = {}
    for count in sorted({1, 2, 4, 8, 16, len(everywhere)} & {*range(1, len(everywhere) + 1)}):
        os.sched_setaffinity(0, sorted(everywhere)[:count])
        some = paths[: min(len(paths), 512 * count)]
        threads = timed(lambda some=some, count=count: each(partial(load_one, policy, size), some, workers=count))
        items = [given_input(path, path) for path in some]
        batches = [items[start : start + 128] for start in range(0, len(items), 128)]
        slots = count // 4 + 3
        with DecodingProcesses(size, policy, processes=count, batch_size=128, slots=slots) as decoding:

            def decode_all(batch, decoding=decoding):
                with decoding.decoded(batch):
                    pass

            each(decode_all, batches[:2], workers=slots)
            processes = timed(lambda run=decode_all, some=batches, slots=slots: each(run, some, workers=slots))
        result[count] = {"threads": len(some) / threads, "processes": len(some) / processes}
        print(count, result[count], flush=True)
    os.sched_setaffinity(0, everywhere)
    return result


def profile(arguments: argparse.Namespace) -> dict:
    """Where the card's time goes: microseconds an image by kernel, with the options that were fastest."""
    from kerasxfer_serving.runtime.gpu_graph import CHANGES
    from kerasxfer_serving.runtime.onnxruntime_session import CUDA_OPTIONS
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    result = {}
    for name, (build, size, _, _) in MODELS.items():
        half = model_path(arguments, build, "float16").read_bytes()
        for names in ((), tuple(CHANGES)):
            session, (binding,) = bound_session(arguments, changed(half, names), CUDA_OPTIONS, 128, size)
            with profiled(activities=[ProfilerActivity.CUDA]) as seen:
                for _ in range(5):
                    session.run_with_iobinding(binding)
            kernels = sorted(seen.key_averages(), key=lambda kernel: -kernel.self_device_time_total)
            rows = {kernel.key[:110]: round(kernel.self_device_time_total / 5 / 128, 3) for kernel in kernels[:14]}
            total = sum(kernel.self_device_time_total for kernel in kernels) / 5 / 128
            result[f"{name}, {'changed' if names else 'as exported'}"] = {"total": total} | rows
    return result


def decode(arguments: argparse.Namespace) -> dict:
    from kerasxfer_serving.images import ImagePolicy
    from kerasxfer_serving.inputs.input import given_input

    size = (224, 224)
    paths = sorted(str(path) for path in (arguments.work / "images").iterdir())
    some = paths[: min(len(paths), 4096)]
    pillow, drafted = ImagePolicy(), ImagePolicy(draft=True)
    ways = {
        "Pillow": lambda: each(lambda path: pillow.load(path, size), some),
        "Pillow, draft": lambda: each(lambda path: drafted.load(path, size), some),
    }
    result: dict[str, object] = {"cores": cores(), "rates": {}, "difference_from_pillow": {}}
    compared = {"Pillow, draft": lambda path: drafted.load(path, size)}
    try:
        import simplejpeg

        def by_simplejpeg(path):
            return pillow.load(simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB"), size)

        ways["simplejpeg"] = lambda: each(by_simplejpeg, some)
        compared["simplejpeg"] = by_simplejpeg
    except ImportError as error:
        result["simplejpeg"] = str(error)
    try:
        from kerasxfer_serving.image_io.gpu import checked_decoder

        decoder, _ = checked_decoder(size, ImagePolicy(decoder="gpu"))
        result["golden_images"] = decoder.difference

        def on_gpu(paths):
            return decoder.decode([given_input(path, path) for path in paths], lambda item: None)

        batches = [some[start : start + 128] for start in range(0, len(some), 128)]
        for threads in (1, 2, 4):
            ways[f"GPU, {threads} threads"] = lambda threads=threads: each(on_gpu, batches, workers=threads)
        compared["GPU"] = lambda path: on_gpu([path])[0].pixels
    except Exception as error:
        result["GPU"] = f"{type(error).__name__}: {error}"
    for name, way in ways.items():
        way()
        samples = [len(some) / timed(way) for _ in range(3)]
        result["rates"][name] = statistics.median(samples)
        print(name, samples, flush=True)
    for name, load in compared.items():
        apart = [np.abs(load(path).astype(int) - pillow.load(path, size)) for path in paths[:100]]
        result["difference_from_pillow"][name] = {
            "mean": float(np.mean([one.mean() for one in apart])),
            "max": int(max(one.max() for one in apart)),
        }
    return result


def whole(arguments: argparse.Namespace) -> dict:
    """From files to a CSV file, by decoder; the ceiling is the slower of decoding and the device, each alone."""
    from kerasxfer_serving.predictor import Predictor
    from predict import bound_rate, end_to_end_rate

    folder = str(arguments.work / "images")
    result = {}
    for name, (build, _, _, _) in MODELS.items():
        for way, options in WAYS.items():
            try:
                path = model_path(arguments, build, "float16")
                with Predictor(path, device=arguments.device, batch_size=128, **options) as predictor:
                    images = random_images(predictor.manifest.image_size, 128)
                    predictor.run(images)
                    alone = ratio(bound_rate(predictor.session, images, arguments.seconds))
                    decoded = [ratio(batch_decode_rate(predictor, folder)) for _ in range(2)]
                    rates = [ratio(end_to_end_rate(predictor, folder)) for _ in range(3)]
                    ceiling = min(alone, max(decoded))
                    result[f"{name}, {way}"] = {
                        "device": alone, "decode": max(decoded), "end_to_end": statistics.median(rates),
                        "samples": rates, "share_of_ceiling": statistics.median(rates) / ceiling,
                        "bottleneck": "decoding" if max(decoded) < alone else "the model",
                        "session": predictor.describe_session(),
                    }  # fmt: skip
            except Exception as error:
                result[f"{name}, {way}"] = {"error": f"{type(error).__name__}: {error}"[:400]}
            print(name, way, {k: v for k, v in result[f"{name}, {way}"].items() if k != "session"}, flush=True)
            (arguments.work / "whole.json").write_text(json.dumps(result, indent=1, default=str))
    if arguments.trained:
        result["answers"] = answers(arguments)
    return result


def answers(arguments: argparse.Namespace) -> dict:
    """What a trained model says of real images: on the CPU, on the card, and on the card with its decoder."""
    from kerasxfer_serving.predictor import Predictor

    paths = sorted(str(path) for path in (arguments.images or arguments.work / "images").rglob("*.jpg"))[:1000]
    ways = {"cpu": ("cpu", "pillow"), "card": (arguments.device, "pillow"), "card, GPU's decoder": ("cuda", "gpu")}
    said = {}
    for way, (where, decoder) in ways.items():
        with Predictor(arguments.trained, device=where, decode=decoder, decode_processes=0) as predictor:
            said[way] = predictor.predict(paths).probabilities
    first = said["cpu"]
    return {"images": len(paths)} | {
        way: {
            "largest_difference": float(np.abs(one - first).max()),
            "mean_difference": float(np.abs(one - first).mean()),
            "same_class": float((one.argmax(1) == first.argmax(1)).mean()),
        }
        for way, one in said.items()
    }


def training(arguments: argparse.Namespace) -> dict:
    folder = arguments.work / "classes"
    if not folder.exists():
        for number, path in enumerate(sorted((arguments.work / "images").iterdir())[:1024]):
            place = folder / "ab"[number % 2] / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place)
    result = {}
    for backend in ("torch", "jax"):
        out = arguments.work / f"bottleneck_cache_{backend}.md"
        environment = os.environ | {"KERAS_BACKEND": backend, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        command = [sys.executable, str(HERE / "bottleneck_cache.py"), str(folder), "--out", str(out)]
        command += ["--images", "512", "--cached-images", "1024"]
        try:
            subprocess.run(command, env=environment, check=False, timeout=LIMITS["training"] / 2 - 3)
        except subprocess.TimeoutExpired:
            print(backend, "out of time")
        if out.exists():
            result[backend] = out.read_text()
    return result


def tests(arguments: argparse.Namespace) -> dict:
    result = {}
    for backend in ("torch", "jax"):
        environment = os.environ | {"KERAS_BACKEND": backend, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
        command += ["tests/kerasxfer/test_gpu.py"] + (["tests/serving/test_gpu.py"] if backend == "torch" else [])
        done = subprocess.run(
            command, env=environment, cwd=HERE.parent, capture_output=True, text=True, timeout=45, check=False
        )
        print(done.stdout[-3000:], done.stderr[-500:])
        result[backend] = done.stdout.strip().splitlines()[-1:]
    return result


# Measuring


def device_rate(arguments, model: bytes, options: dict, batch: int, *, size: int, lanes: int = 1) -> float:
    """Images a second of a bare session with pixels and answers on the card; `lanes` batches at once."""
    session, bindings = bound_session(arguments, model, options, batch, size, lanes)

    def work(binding, end, counts):
        while time.perf_counter() < end:
            session.run_with_iobinding(binding)
            counts.append(batch)

    rates = []
    for _ in range(3):
        counts: list[int] = []
        started = time.perf_counter()
        end = started + arguments.seconds / 3
        threads = [threading.Thread(target=work, args=(binding, end, counts)) for binding in bindings[1:]]
        for thread in threads:
            thread.start()
        work(bindings[0], end, counts)
        for thread in threads:
            thread.join()
        rates.append(sum(counts) / (time.perf_counter() - started))
    return statistics.median(rates)


def bound_session(arguments, model: bytes, options: dict, batch: int, size: int, lanes: int = 1):
    """A bare session, warm, and for each lane its pixels and answers on the card."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    settings = onnxruntime.SessionOptions()
    settings.add_free_dimension_override_by_name("batch", batch)
    on_card = arguments.device == "cuda"
    provider = ("CUDAExecutionProvider", options) if on_card else "CPUExecutionProvider"
    session = onnxruntime.InferenceSession(model, settings, providers=[provider])
    if on_card and session.get_providers()[0] != "CUDAExecutionProvider":
        raise RuntimeError("CUDA does not start")
    place = (arguments.device, 0)

    def lane():
        binding = session.io_binding()
        pixels = onnxruntime.OrtValue.ortvalue_from_numpy(random_images((size, size), batch), *place)
        answers = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((batch, 1000), np.float32), *place)
        binding.bind_ortvalue_input(session.get_inputs()[0].name, pixels)
        binding.bind_ortvalue_output(session.get_outputs()[0].name, answers)
        return binding

    bindings = [lane() for _ in range(lanes)]
    for binding in bindings * 3:
        session.run_with_iobinding(binding)
    return session, bindings


def changed(model: bytes, names) -> bytes:
    import onnx
    from kerasxfer_serving.runtime.gpu_graph import CHANGES

    graph = onnx.load_model_from_string(model)
    for name in names:
        CHANGES[name](graph)
    return graph.SerializeToString()


def batch_decode_rate(predictor, folder: str) -> tuple[int, float, float]:
    from predict import Clock, read_folder

    items = list(read_folder(folder))
    size = predictor.batch_size
    batches = [items[start : start + size] for start in range(0, len(items), size)]
    with predictor.decoding():

        def decode_one(batch):
            with predictor.decoded(batch):
                pass

        each(decode_one, batches[:4], workers=predictor.workers)
        clock = Clock()
        each(decode_one, batches, workers=predictor.workers)
    return clock.rate(len(items))


def load_one(policy, size, path):
    return policy.load(path, size)


def each(function, items, workers: int | None = None) -> None:
    with ThreadPoolExecutor(workers or cores()) as pool:
        for _ in pool.map(function, items):
            pass


def timed(function) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def ratio(measured: tuple[int, float, float]) -> float:
    return measured[0] / measured[1]


def random_images(size: tuple[int, int], count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


# Materials


def model_path(arguments: argparse.Namespace, build: str, dtype: str) -> Path:
    return arguments.work / f"{build}-{dtype}.onnx"


def draw(folder: Path, given: Path | None, count: int) -> None:
    """`count` JPEG files: the ones given, or 64 with the detail of photographs, over and over."""
    from PIL import Image

    folder.mkdir(parents=True)
    originals = sorted(given.rglob("*.jpg")) if given else []
    if not originals:
        rng = np.random.default_rng(0)
        for index in range(64):
            coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375))
            pixels = np.asarray(coarse) + rng.normal(0, 14, (375, 500, 3))
            originals.append(folder.parent / f"drawn-{index:02d}.jpg")
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(originals[-1], quality=85)
    for index in range(count):
        original = originals[index % len(originals)]
        (folder / f"{index:06d}.jpg").write_bytes(original.read_bytes())


def sizes_of(folder: Path) -> dict:
    from PIL import Image

    sizes, lengths = [], []
    for path in sorted(folder.iterdir())[:512]:
        with Image.open(path) as image:
            sizes.append(image.size)
        lengths.append(path.stat().st_size)
    return {
        "count": sum(1 for _ in folder.iterdir()),
        "median_size": [int(side) for side in np.median(sizes, axis=0)],
        "median_bytes": int(np.median(lengths)),
        "different_sizes": len(set(sizes)),
    }


def cores() -> int:
    return len(os.sched_getaffinity(0))


def machine() -> dict:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    try:
        card = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        card = ""
    packages = {}
    for name in ("onnxruntime", "torch", "jax", "keras", "PIL", "cupy", "numpy"):
        try:
            packages[name] = __import__(name).__version__
        except Exception as error:
            packages[name] = type(error).__name__
    return {"gpu": card, "cores": cores(), "python": platform.python_version(), "packages": packages}


# Report


def table(result: dict) -> str:
    lines = [json.dumps(result.get("prepare", {}))]
    torch_rates = result.get("peers", {}).get("rates", {})
    peak = result.get("peers", {}).get("tflops")
    for name, (_, _, gflop, target) in MODELS.items():
        rates = result.get("device", {}).get(name, {}).get("rates", {})
        lines += [
            f"{name}: {key}: {value if isinstance(value, str) else f'{value:,.0f}/s'}" for key, value in rates.items()
        ]
        half = [rate for key, rate in rates.items() if isinstance(rate, float) and not key.startswith("fp32")]
        peer = [rate for key, rate in torch_rates.items() if key.startswith(name) and isinstance(rate, float)]
        lines += [
            f"{key} (PyTorch): {value if isinstance(value, str) else f'{value:,.0f}/s'}"
            for key, value in torch_rates.items()
            if key.startswith(name)
        ]
        if half:
            best = max(half)
            share = f", {best * gflop / 1e3 / peak:.2f} of the card's matrix rate" if peak else ""
            against = f", {best / max(peer):.2f} × PyTorch's best" if peer else ""
            lines.append(f"{name}: best {best:,.0f}/s (goal {target:,}){against}{share}")
    lines.append(f"limits: {peak and f'{peak:.0f} TFLOP/s'}, copy {result.get('peers', {}).get('copy_tb_s')} TB/s")
    lines += [f"proof: {key}: {value}" for key, value in result.get("proof", {}).items()]
    lines += [f"decode: {key}: {value}" for key, value in result.get("decode", {}).items()]
    for step in ("graph", "scaling"):
        lines += [f"{step}: {key}: {value}" for key, value in result.get(step, {}).items()]
    for key, value in result.get("whole", {}).items():
        lines.append(f"end to end: {key}: { {k: v for k, v in value.items() if k not in ('session', 'samples')} }")
    lines += [f"profile: {key}: {value}" for key, value in result.get("profile", {}).items()]
    lines += [f"training: {backend}\n{text}" for backend, text in result.get("training", {}).items()]
    lines.append(f"tests: {result.get('tests')}")
    return "\n".join(lines)


def per_second(rate) -> str:
    return rate if isinstance(rate, str) else f"{rate:,.0f}/s"


if __name__ == "__main__":
    main()
