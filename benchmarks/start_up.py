"""From nothing to the first answer: a fresh Python process that opens a model and predicts one image.

python benchmarks/start_up.py model.onnx IMAGE [--device cpu] [--repeats 5] [-o benchmarks/results/start_up.json]

Beside the seconds on the clock stand those of processor time, which other work on the machine disturbs less. A first
process is not counted: it compiles what pip has not.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ONE_IMAGE = """
import sys
from kerasxfer_serving import Predictor

with Predictor(sys.argv[1], device=sys.argv[3], cache_dir=sys.argv[4] or None) as predictor:
    assert predictor.predict([sys.argv[2]]).status == ["ok"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache-dir", default="", help="for what OpenVINO compiles")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    times = [seconds_of(arguments) for _ in range(1 + arguments.repeats)][1:]
    result = {"model": Path(arguments.model).name, "device": arguments.device}
    for name, values in zip(("seconds", "processor_seconds"), zip(*times, strict=True), strict=True):
        result |= {name: values, f"median_{name}": statistics.median(values)}
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def seconds_of(arguments: argparse.Namespace) -> tuple[float, float]:
    command = [sys.executable, "-c", ONE_IMAGE, arguments.model, arguments.image, arguments.device, arguments.cache_dir]
    started, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, used


if __name__ == "__main__":
    main()
