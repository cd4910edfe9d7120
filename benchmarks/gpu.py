"""GPU figures, self-contained: makes its own models and pictures, needs onnxruntime-gpu and no framework.

    python benchmarks/gpu.py -o benchmarks/results/gpu.json [--device cuda|tensorrt] [--pictures 8192]

For VGG16 at 224 and InceptionV3 at 299 in fp16 (and VGG16 in fp32, with TF32 on and off): proof of the device
(providers, nodes by provider, difference from the CPU's answers), rate with the pixels on the device over batch sizes,
bare decode, and end to end from JPEG files to a CSV file. Session creation and first run are timed apart. The targets
are those of an H100: 13,000 and 21,000 images/s on the device, and end to end 0.9 of the slower of device and decode.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from onnx_models import inception_v3, vgg16
from PIL import Image
from predict import bound_rate, decode_rate, end_to_end_rate

BATCHES = (32, 64, 128, 256)
MODELS = {
    "VGG16@224 fp16": (vgg16, 224, "float16", 13_000),
    "InceptionV3@299 fp16": (inception_v3, 299, "float16", 21_000),
    "VGG16@224 fp32": (vgg16, 224, "float32", None),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "tensorrt"])
    parser.add_argument("--pictures", type=int, default=8192)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = draw(Path(place) / "pictures", arguments.pictures)
        result = {"machine": machine(), "device": arguments.device, "models": {}}
        for name, (build, size, dtype, target) in MODELS.items():
            path = build(Path(place) / f"{build.__name__}-{dtype}.onnx", size, dtype)
            figures = measure(
                path, str(folder), arguments, target, tf32s=(True, False) if dtype == "float32" else (True,)
            )
            result["models"][name] = figures
            print(name, json.dumps(figures, indent=2), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def measure(path: Path, folder: str, arguments: argparse.Namespace, target: float | None, tf32s: tuple) -> dict:
    from kerasxfer_serving.predictor import Predictor

    rates: dict[str, float] = {}
    sessions = {}
    for tf32 in tf32s:
        for batch in BATCHES:
            key = f"batch {batch}" + ("" if tf32 else ", TF32 off")
            started = time.perf_counter()
            with Predictor(path, device=arguments.device, batch_size=batch, tf32=tf32) as predictor:
                created = time.perf_counter() - started
                images = random_images(predictor, batch)
                started = time.perf_counter()
                predictor.run(images)
                first = time.perf_counter() - started
                samples = [
                    ratio(bound_rate(predictor.session, images, arguments.seconds)) for _ in range(arguments.repeats)
                ]
                rates[key] = statistics.median(samples)
                sessions[key] = {"seconds_to_create": created, "seconds_of_first_run": first, "samples": samples}
    best = max((batch for batch in BATCHES), key=lambda batch: rates[f"batch {batch}"])
    with Predictor(path, device=arguments.device, batch_size=best) as predictor:
        decode = [ratio(decode_rate(predictor, folder)) for _ in range(arguments.repeats)]
        whole = [ratio(end_to_end_rate(predictor, folder)) for _ in range(arguments.repeats)]
        difference = difference_from_cpu(path, predictor)
        described = predictor.session.describe()
    device_only = rates[f"batch {best}"]
    return {
        "session": described,
        "difference_from_cpu": difference,
        "device_only": rates,
        "best_batch": best,
        "decode": statistics.median(decode),
        "end_to_end": statistics.median(whole),
        "share_of_ceiling": statistics.median(whole) / min(statistics.median(decode), device_only),
        "target": target,
        "reached": target is None or device_only >= target,
        "sessions": sessions,
    }


def difference_from_cpu(path: Path, predictor) -> float:
    """Largest difference of a probability from those of the CPU."""
    from kerasxfer_serving.predictor import Predictor

    images = random_images(predictor, 8)
    with Predictor(path, device="cpu", batch_size=8) as cpu:
        return float(np.abs(predictor.run(images)[0] - cpu.run(images)[0]).max())


def ratio(measured: tuple[int, float, float]) -> float:
    return measured[0] / measured[1]


def random_images(predictor, count: int):
    shape = (count, *predictor.manifest.image_size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def draw(folder: Path, count: int) -> Path:
    """JPEG files of 500 × 375 pixels with the detail of photographs: some fifty kilobytes each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    contents = []
    for index in range(64):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375))
        pixels = np.asarray(coarse) + rng.normal(0, 14, (375, 500, 3))
        path = folder / f"{index:06d}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=85)
        contents.append(path.read_bytes())
    for index in range(64, count):
        (folder / f"{index:06d}.jpg").write_bytes(contents[index % 64])
    return folder


def machine() -> dict:
    import onnxruntime
    from kerasxfer_serving.runtime.threads import available_cores

    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    gpu = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    return {"gpu": gpu, "cores": available_cores(), "onnxruntime": onnxruntime.__version__}


if __name__ == "__main__":
    main()
