"""What a run folder says about its run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasxfer_serving.benchmarking.report import Report
from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.model.manifest import Manifest

from kerasxfer.runs.histories import read_history
from kerasxfer.runs.run_folder import RunFolder, RunRecord


@dataclass(frozen=True)
class Run:
    """A run folder, read.

    Args:
        name: What the report calls it.
        folder: Where it is.
        record: What it says of itself.
        history: Columns of `history.csv`.
        manifest: Manifest of `model.onnx`, as a dictionary; `None` where nothing was exported.
        benchmark: The report in `bench.json`; `None` where nothing was benchmarked.
    """

    name: str
    folder: RunFolder
    record: RunRecord
    history: dict[str, list[Any]]
    manifest: dict[str, Any] | None
    benchmark: Report | None

    @property
    def class_names(self) -> list[str]:
        """The classes in the order of the model's outputs."""
        return list(self.record.class_names)


def load_runs(folders: list[Path]) -> list[Run]:
    """Read run folders; where two have the same name, they are called by their paths."""
    names = [folder.resolve().name for folder in folders]
    shown = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    return [_load(folder, name) for folder, name in zip(folders, shown, strict=True)]


def _load(path: Path, name: str) -> Run:
    folder = RunFolder(path)
    return Run(
        name=name,
        folder=folder,
        record=folder.read(),
        history=read_history(folder.history),
        manifest=_manifest(folder.exported),
        benchmark=Report.read(folder.benchmark) if folder.benchmark.is_file() else None,
    )


def _manifest(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        manifest: dict[str, Any] = json.loads(Manifest.read(path).to_json())
    except ModelError as error:
        raise ModelError(f"`{path}` cannot be shown in the report; export it again or move it away. {error}") from None
    return manifest
