"""`kerasxfer.export_onnx` beside Keras's own `model.export(format="onnx")`, for each backend, in one run.

    python benchmarks/export.py --backbones VGG16 InceptionV3 --backends tensorflow torch jax -o export.json

Size and speed do not depend on what the weights know, so they are random (He), and nothing is downloaded. Every model
has its preprocessing, global average pooling and a hidden layer. Then ONNX Runtime on the CPU runs all files and the
int8 twin of ours in turn, round after round, on each core by itself as the predictor does: the figure is the fastest
round's rate, the ratio is to our fp32 file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from keras_models import CLASSES, random_classifier, save_int8
from predict import lanes_rate


def export_both(backbone, size, folder):
    """In a process of one backend: export the same model both ways; one JSON line for each."""
    import keras

    import kerasxfer

    model = random_classifier(backbone, size)
    model.predict(np.zeros((1, size, size, 3), "uint8"), verbose=0)
    ways = {
        "kerasxfer": lambda path: kerasxfer.export_onnx(model, path, class_names=CLASSES, verbose=False),
        "keras": lambda path: model.export(path, format="onnx", verbose=False),
    }
    for way, export in ways.items():
        path = folder / f"{backbone}-{keras.backend.backend()}-{way}.onnx"
        row = {"backbone": backbone, "backend": keras.backend.backend(), "export": way}
        start = time.perf_counter()
        try:
            export(path)
            row |= {"seconds": time.perf_counter() - start, "path": str(path)}
        except Exception as error:  # what Keras cannot export is a result
            row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        print(json.dumps(row), flush=True)


def in_backend(backend, arguments, folder):
    command = [sys.executable, __file__, "--child", str(folder), "--size", str(arguments.size)]
    done = subprocess.run(
        [*command, "--backbones", *arguments.backbones],
        env={**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def int8_twin(row, size):
    """Our fp32 graph quantised: for speed alone, so on drawn images."""
    start = time.perf_counter()
    path = save_int8(Path(row["path"]), size)
    return {**row, "export": "kerasxfer int8", "seconds": time.perf_counter() - start, "path": str(path)}


def measure(rows, size, batch, rounds):
    from kerasxfer_serving.model.model_file import load_model_file
    from kerasxfer_serving.runtime.opening import open_session
    from kerasxfer_serving.runtime.resources import available_cores

    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    sessions = {}
    for row in rows:
        statistics = load_model_file(row["path"]).statistics
        row |= {"nodes": statistics["nodes"], "megabytes": Path(row["path"]).stat().st_size / 1e6}
        row |= {name.lower(): statistics["operators"].get(name, 0) for name in ("Cast", "Transpose")}
        sessions[row["path"]] = open_session(row["path"], "cpu", threads=1)
    rates = {path: [] for path in sessions}
    for _ in range(rounds):
        for path, session in sessions.items():
            count, seconds, _ = lanes_rate(session, images, available_cores(), 2.0)
            rates[path].append(count / seconds)
    for row in rows:
        row["images_per_second"] = max(rates[row["path"]])


def print_table(rows):
    print("| backbone | backend | export | s | nodes | casts | transposes | MB | images/s | × ours fp32 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    ours = {row["backbone"]: row["images_per_second"] for row in rows if row["export"] == "kerasxfer"}
    for row in rows:
        head = f"| {row['backbone']} | {row['backend']} | {row['export']} |"
        if "error" in row:
            print(f"{head} {row['error']} |")
            continue
        rate = row["images_per_second"]
        print(
            f"{head} {row['seconds']:.1f} | {row['nodes']} | {row['cast']} | {row['transpose']} | "
            f"{row['megabytes']:.1f} | {rate:.1f} | {rate / ours[row['backbone']]:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["VGG16", "InceptionV3"])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "torch", "jax"])
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        for backbone in arguments.backbones:
            export_both(backbone, arguments.size, arguments.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for backend in arguments.backends for row in in_backend(backend, arguments, folder)]
        for backbone in arguments.backbones:
            ours = next(row for row in rows if row["export"] == "kerasxfer" and row["backbone"] == backbone)
            rows.append(int8_twin(ours, arguments.size))
        rows.sort(key=lambda row: row["backbone"])
        measure([row for row in rows if "path" in row], arguments.size, arguments.batch, arguments.rounds)
    print_table(rows)
    if arguments.output:
        named = [row | ({"path": Path(row["path"]).name} if "path" in row else {}) for row in rows]
        arguments.output.write_text(json.dumps(named, indent=2) + "\n")


if __name__ == "__main__":
    main()
