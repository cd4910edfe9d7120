"""How long a table of a million rows takes to open, and whether memory grows with the rows that are trained on.

    python benchmarks/image_table.py [--rows 1000000] [--output image_table.json]

Each row names a file of its own, a hard link to one of a few images, and says a class, a group and a weight. Every
figure is of a fresh process. `read` is pyarrow's reader on the same CSV, as a measure of the machine.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 100
IN_A_FOLDER = 10_000
BATCHES = 200


def make(folder: Path, rows: int) -> Path:
    """`labels.csv` with so many rows, and the images that it names."""
    rng = np.random.default_rng(0)
    originals = []
    for number in range(100):  # file systems allow no more than some ten thousand links to one file
        path = folder / f"original{number}.jpg"
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
        originals.append(path)
    lines = ["image,label,patient,weight"]
    for row in range(rows):
        parent = folder / "images" / f"{row // IN_A_FOLDER:04}"
        if row % IN_A_FOLDER == 0:
            parent.mkdir(parents=True)
        os.link(originals[row % len(originals)], parent / f"{row:07}.jpg")
        lines.append(f"images/{parent.name}/{row:07}.jpg,class {row % CLASSES},p{row // 10},1.0")
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def open_table(table: str) -> dict[str, float]:
    """Seconds until a table is open, of the clock and of the CPU, and its reading alone by pyarrow."""
    from pyarrow import csv

    from kerasxfer import ImageTable

    start, cpu = time.perf_counter(), time.process_time()
    dataset = ImageTable(table, (32, 32), weight_column="weight", seed=0)
    opened, opened_cpu = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    csv.read_csv(table)
    read = time.perf_counter() - start
    return {"rows": len(dataset.paths), "open_s": opened, "open_cpu_s": opened_cpu, "read_s": read}


def train(table: str, rows: str) -> dict[str, float]:
    """Peak memory in MB after batches of the first so many rows."""
    import kerasxfer

    columns = {"image": [], "label": []}
    with Path(table).open() as file:
        next(file)
        for _, line in zip(range(int(rows)), file, strict=False):
            image, label, *_ = line.split(",")
            columns["image"].append(image)
            columns["label"].append(label)
    part = Path(table).with_name(f"first{rows}.csv")
    part.write_text("image,label\n" + "\n".join(map(",".join, zip(*columns.values(), strict=True))) + "\n")
    del columns
    dataset = kerasxfer.ImageTable(part, (32, 32), seed=0)
    model = kerasxfer.image_classifier("DemoVGG", dataset.class_names, (32, 32))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(dataset, steps_per_epoch=min(BATCHES, len(dataset)), epochs=1, verbose=0, shuffle=False)
    return {"rows": len(dataset.paths), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_a_process(task: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--task", task, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        task, *rest = arguments.task
        print(json.dumps({"open": open_table, "train": train}[task](*rest)))
        return
    with tempfile.TemporaryDirectory() as folder:
        table = str(make(Path(folder), arguments.rows))
        opened = [in_a_process("open", table) for _ in range(arguments.repeats)]
        memory = [in_a_process("train", table, str(rows)) for rows in (2_000, 200_000)]
    result = {
        "open": opened,
        "memory": memory,
        "peak_ratio": memory[1]["peak_mb"] / memory[0]["peak_mb"],
        "load": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=2))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
