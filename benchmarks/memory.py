"""Peak memory of `predict` for 2,000 and for 20,000 inputs: it must not grow with their number.

python benchmarks/memory.py model.onnx [--inputs 2000 20000] [-o benchmarks/results/memory.json]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--inputs", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    peaks = {count: peak_memory(arguments.model, count) for count in arguments.inputs}
    first, *_, last = peaks.values()
    result = {"peak_mib": peaks, "ratio": last / first}
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def peak_memory(model: str, count: int) -> float:
    """Peak resident memory, in MiB, of the command on `count` files in one folder."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images"
        folder.mkdir()
        draw(folder / "000000.jpg")
        for index in range(1, count):
            os.link(folder / "000000.jpg", folder / f"{index:06d}.jpg")
        out = Path(place) / "out.csv"
        command = [sys.executable, "-m", "kerasxfer_serving", "predict", model, str(folder), "-o", str(out)]
        process = subprocess.Popen([*command, "--device", "cpu", "--batch-size", "8"], stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        assert sum(1 for _ in out.open()) == count + 1
        return usage.ru_maxrss / 1024


def draw(path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((320, 240)).save(path)


if __name__ == "__main__":
    main()
