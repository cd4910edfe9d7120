"""Runs of a writer in a few lines, for tests of what is left behind."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kerasxfer_serving.inputs.input import Input, given_input
from kerasxfer_serving.outputs.destination import Destination
from kerasxfer_serving.outputs.predictions import Predictions, columns
from kerasxfer_serving.outputs.writer import PartWriter

NAMES = ("cat", "dog")
PATHS = [f"{index}.jpg" for index in range(10)]


def batch(paths: Sequence[str]) -> Predictions:
    return Predictions(
        class_names=NAMES,
        paths=list(paths),
        status=["ok"] * len(paths),
        messages=[""] * len(paths),
        probabilities=np.full((len(paths), 2), 0.5, np.float32),
        sizes=[(4, 3)] * len(paths),
    )


def open_writer(out: Path, *, format: str = "csv", model: str = "abc", **options: Any) -> PartWriter:
    table = columns(NAMES)
    run = {"model": model, "format": format, "columns": table}
    return PartWriter(Destination(out, format), table, run=run, versions={}, **({"part_rows": 4} | options))


def write(writer: PartWriter, paths: Sequence[str]) -> None:
    for start in range(0, len(paths), 2):
        writer.write(batch(paths[start : start + 2]))


def inputs(paths: Sequence[str] = PATHS) -> Iterator[Input]:
    return iter([given_input(path, path) for path in paths])


def resume(out: Path, **options: Any) -> PartWriter:
    """Continue a run to its end."""
    writer = open_writer(out, resume=True, **options)
    rest = inputs()
    writer.skip(rest)
    write(writer, [item.path for item in rest])
    writer.finish({})
    return writer


def written(out: Path) -> list[str]:
    files = [out] if out.is_file() else sorted(out.glob("part-*.csv"))
    return [line.split(",")[0] for file in files for line in file.read_text().splitlines()[1:]]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
