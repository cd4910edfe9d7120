"""The run folder: what lies where, what its `config.json` says, and how far the run has come.

Nobody else knows a name in the folder or a key in the file. Every file appears in one step, so that a run that is
killed at any moment is in one of three states:

| state    | there is                        | `train --resume`                   |
| -------- | ------------------------------- | ---------------------------------- |
| begun    | the record                      | goes on after the last checkpoint  |
| trained  | and the model                   | evaluates it and completes the record |
| finished | and the outcome in the record   | has nothing to do                  |
"""

import dataclasses
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from kerasxfer_serving.benchmarking.report import Report
from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.files import sync, sync_folder, write_atomically, writing
from kerasxfer_serving.model.manifest import Manifest

from kerasxfer.data.tables.columns import TableOptions
from kerasxfer.runs.config import TrainConfig

_LOCK = ".lock"
_CONFIG_KEYS = tuple(field.name for field in dataclasses.fields(TrainConfig))
# No other tool's `config.json` (Hugging Face's, say) has these together. One that somebody has written by hand, for
# `export` to know about a model trained otherwise, needs no more than these; it makes no run.
_MARKS = frozenset({"backbone", "image_size", "policy"})


class RunState(StrEnum):
    """How far a run has come."""

    begun = "begun"
    trained = "trained"
    finished = "finished"


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The contents of `config.json`: what was asked for, what it ran on, and what came of it.

    Args:
        config: What was asked for.
        class_names: The classes, in the order of the model's outputs.
        images: Number of images under `"training"`, `"validation"` and, where there are any, `"test"`.
        weights_sha256: SHA-256 of the weights file, where one was given.
        backend: Keras's backend.
        versions: Versions of the packages, by name.
        command: The command line.
        seconds: How long the training took; `None` while the run is not finished.
        kept_epoch: The epoch that the model's weights are of, from 1; `None` where no best one was looked for.
        result: Metrics on the validation images; empty where there were none, or while the run is not finished.
        test_result: Metrics on the test images, with `accuracy_low` and `accuracy_high`, the 95 % Wilson interval, or
            with several labels to an image the intervals of a bootstrap; empty likewise.
        thresholds: Of a run with several labels to an image, the probability from which each class fits, chosen on the
            validation images; else empty.
    """

    config: TrainConfig
    class_names: tuple[str, ...] = ()
    images: Mapping[str, int] = dataclasses.field(default_factory=dict)
    weights_sha256: str | None = None
    backend: str | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    command: tuple[str, ...] = ()
    seconds: float | None = None
    kept_epoch: int | None = None
    result: Mapping[str, float] = dataclasses.field(default_factory=dict)
    test_result: Mapping[str, float] = dataclasses.field(default_factory=dict)
    thresholds: tuple[float, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "RunRecord":
        """Read a record; keys that a later version has added are passed over.

        Raises:
            KerasxferError: There is no such file, or it is not the record of a run.
        """
        try:
            values = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
        except FileNotFoundError:
            raise KerasxferError(_no_run(path, "a folder without config.json")) from None
        except (OSError, ValueError, RecursionError) as error:
            raise KerasxferError(_no_run(path, f"{type(error).__name__}: {error}")) from None
        if not isinstance(values, dict) or not values.keys() >= _MARKS:
            raise KerasxferError(_no_run(path, "the config.json of another tool"))
        config = {"data": ""} | {key: values[key] for key in _CONFIG_KEYS if key in values}
        config["table"] = TableOptions.from_dict(config.get("table", {}))
        own = {field.name for field in dataclasses.fields(cls)} - {"config"}
        try:
            return cls(
                TrainConfig(**config | {"image_size": tuple(config["image_size"])}),
                **{name: _frozen(values[name]) for name in own if values.get(name) is not None},
            )
        except (TypeError, ValueError) as error:
            raise KerasxferError(_no_run(path, str(error))) from None

    def write(self, path: Path) -> None:
        """Write the record, in one step."""
        write_atomically(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """The contents of `config.json`: the fields of `config` beside the record's own."""
        values = dataclasses.asdict(self)
        return {**values.pop("config"), **{key: value for key, value in values.items() if value is not None}}


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run folder; nothing is read before it is asked for.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def record(self) -> Path:
        return self.path / "config.json"

    @property
    def model(self) -> Path:
        return self.path / "model.keras"

    @property
    def history(self) -> Path:
        return self.path / "history.csv"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.weights.h5"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def exported(self) -> Path:
        """Where `report` looks for the exported model."""
        return self.path / "model.onnx"

    @property
    def benchmark(self) -> Path:
        """Where `report` looks for what `benchmark` measured."""
        return self.path / "bench.json"

    @property
    def state(self) -> RunState | None:
        """How far the run has come; `None` where there is no run."""
        try:
            record = self.read()
        except KerasxferError:
            return None
        if not record.config.data:
            return None
        if not zipfile.is_zipfile(self.model):  # none yet, or one that another program has cut short
            return RunState.begun
        return RunState.trained if record.seconds is None else RunState.finished

    @property
    def vacant(self) -> bool:
        """Whether a run can begin here: nothing is there, or what one that failed at once has left."""
        if not self.path.is_dir():
            return not self.path.exists()
        return {*self.path.iterdir()} <= {self.cache, self.path / _LOCK, *self._unfinished()}

    def read(self) -> RunRecord:
        """The run's record.

        Raises:
            KerasxferError: This is no run folder.
        """
        return RunRecord.read(self.record)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training here; makes the folder, and removes it where nothing came into it.

        Raises:
            KerasxferError: Another process is training here, or the folder cannot be written to.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / _LOCK)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise KerasxferError(
                    f"Another process is training in `{self.path}`. Wait until it ends, or choose another `--out`."
                ) from None
        try:
            yield
        finally:
            (self.path / _LOCK).unlink(missing_ok=True)
            lock.release()
            with suppress(OSError):  # something came into it
                self.path.rmdir()

    def discard(self) -> None:
        """Remove what a run has written, and the folder where nothing else is in it.

        What others have put beside it stays, and so does the cache, which holds for any run.
        """
        self.sweep()
        for path in (*self._written(), *self._made_from_the_model()):
            path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)  # last: until then this is known for a run
        for folder in (*sorted(self.cache.glob("*/")), self.cache, self.path):
            with suppress(OSError):  # there is something in it
                folder.rmdir()

    def sweep(self) -> None:
        """Remove what a killed process has not finished writing."""
        for path in self._unfinished():
            path.unlink(missing_ok=True)

    def _written(self) -> tuple[Path, ...]:
        return self.checkpoint, self.model, self.history, self.curves

    def _unfinished(self) -> Iterator[Path]:
        for path in (*self._written(), self.record):
            yield _unfinished(path)
            yield from self.path.glob(f".{path.name}.*-*.tmp")

    def _made_from_the_model(self) -> Iterator[Path]:
        """What `export` and `benchmark` have put here; a file of that name that others made is theirs."""
        for path, read in ((self.exported, Manifest.read), (self.benchmark, Report.read)):
            with suppress(KerasxferError, OSError):
                read(path)
                yield path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write a file of the run under, for libraries that know formats by the suffix; it takes `path`'s place.

    Raises:
        WriteError: The file cannot be written.
    """
    unfinished = _unfinished(path)
    with writing(path):
        yield unfinished
        with unfinished.open("rb+") as file:
            sync(file)
        unfinished.replace(path)
        sync_folder(path.parent)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".unfinished.{path.name}")


def _no_run(path: Path, received: str) -> str:
    return f"`{path.parent}` must be a run folder of `kerasxfer train`. Received: {received}"


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
