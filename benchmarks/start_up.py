"""From nothing to the first answer: a fresh Python process that opens a model and predicts one image.

python benchmarks/start_up.py model.onnx IMAGE [--repeats 5] [-o benchmarks/results/start_up.json]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ONE_IMAGE = """
import sys
from kerasxfer_serving import Predictor

with Predictor(sys.argv[1], device="cpu") as predictor:
    assert predictor.predict([sys.argv[2]]).status == ["ok"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    seconds = [seconds_of(arguments.model, arguments.image) for _ in range(arguments.repeats)]
    result = {"model": Path(arguments.model).name, "seconds": seconds, "median": statistics.median(seconds)}
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def seconds_of(model: str, image: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", ONE_IMAGE, model, image], check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
