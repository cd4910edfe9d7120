"""Where predictions go: parts that are committed one by one and, for a single file, joined at the end; or a stream.

Killed at any moment, a run leaves whole parts and a journal that names them. What is not in the journal does not count.
"""

import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.inputs.input import Input
from kerasxfer_serving.outputs.destination import is_single_file, journal_path, make_way
from kerasxfer_serving.outputs.journal import Journal, Part
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.outputs.tables import TABLES, Table

_PART_SECONDS = 30.0


class Writer(Protocol):
    """What takes predictions, batch by batch."""

    def skip(self, inputs: Iterator[Input]) -> Counter[str]:
        """Pass over the inputs that are done already; returns their number by status."""

    def write(self, predictions: Predictions) -> None:
        """Take one batch."""

    def stop(self) -> None:
        """End early: commit what was taken, and where that is nothing leave nothing behind."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Commit, and put the result in its place."""


class StreamWriter:
    """Writes rows to an open binary file, such as standard output, as they come."""

    def __init__(self, file: IO[bytes], format: str, columns: Mapping[str, str], **row_options: Any) -> None:
        self._file = file
        self._table = TABLES[format](file, columns)
        self._row_options = row_options

    def skip(self, inputs: Iterator[Input]) -> Counter[str]:
        return Counter()

    def write(self, predictions: Predictions) -> None:
        self._table.write(predictions.rows(**self._row_options))
        self._file.flush()

    def stop(self) -> None:
        self._file.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._table.close()
        self._file.flush()


class PartWriter:
    """Writes parts, each committed as a whole, and continues where a killed run stopped.

    Args:
        out: a `.csv`, `.jsonl` or `.parquet` file, or a folder for the parts.
        format: `"csv"`, `"jsonl"` or `"parquet"`.
        columns: names and types, of `kerasxfer_serving.outputs.predictions.columns`.
        run: all that decides the rows: model, options. Compared on resuming.
        versions: of packages; recorded, not compared.
        resume: continue what is there. Defaults to `False`.
        overwrite: begin anew whatever is there. Defaults to `False`.
        part_rows: rows in a part at most; also closed after 30 seconds. Defaults to 50,000.
        row_options: arguments of `Predictions.rows`.

    Raises:
        UsageError: there is something in the way, or `resume` meets another run.
    """

    def __init__(
        self,
        out: Path,
        format: str,
        columns: Mapping[str, str],
        *,
        run: Mapping[str, Any],
        versions: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
        part_rows: int = 50_000,
        **row_options: Any,
    ) -> None:
        self.out = out
        self._format = format
        self._columns = columns
        self._part_rows = part_rows
        self._row_options = row_options
        self._single = is_single_file(out)
        self._folder = out.with_name(f"{out.name}.parts") if self._single else out
        make_way(out, self._folder, resume=resume, overwrite=overwrite)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(journal_path(out))
        if self._journal.run is None:
            self._journal.begin(run, versions)
        else:
            self._journal.require_same(run)
        self._remove_uncommitted()
        self._file: IO[bytes] | None = None
        self._table: Table | None = None

    @property
    def complete(self) -> bool:
        """Whether the run was finished before."""
        return self._journal.summary is not None

    def skip(self, inputs: Iterator[Input]) -> Counter[str]:
        """Pass over the inputs of the parts that are done.

        Raises:
            UsageError: these are not the inputs that the parts were made of.
        """
        status: Counter[str] = Counter()
        for part in self._journal.parts:
            digest, rows = hashlib.sha256(), 0
            while rows < part.rows and (item := next(inputs, None)) is not None:
                _add_path(digest, item.path)
                rows += 1
            if digest.hexdigest() != part.paths_sha256:
                raise self._changed(f"inputs {status.total():,} to {status.total() + part.rows:,}")
            status.update(part.status)
        if self.complete and (item := next(inputs, None)) is not None:
            raise self._changed(f"there are more than {status.total():,} now, first {item.path!r}")
        return status

    def write(self, predictions: Predictions) -> None:
        with self._part_at_stake():
            table = self._table or self._open_part()
            table.write(predictions.rows(**self._row_options))
            self._rows += len(predictions)
            self._status.update(predictions.status)
            for path in predictions.paths:
                _add_path(self._digest, path)
        if self._rows >= self._part_rows or time.monotonic() - self._opened >= _PART_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Close the part being written, so that it counts."""
        if self._table is None or self._file is None:
            return
        with self._part_at_stake():
            self._table.close()
            _sync(self._file)
            self._file.close()
            temporary = Path(self._file.name)
            temporary.replace(temporary.with_suffix(""))
            _sync_folder(self._folder)
            self._journal.commit(Part(temporary.stem, self._rows, self._digest.hexdigest(), dict(self._status)))
        self._file = self._table = None

    def stop(self) -> None:
        self.commit()
        self._journal.close()
        if not self._journal.parts:
            journal_path(self.out).unlink()
            self._folder.rmdir()

    def finish(self, summary: Mapping[str, Any]) -> None:
        self.commit()
        if not self.complete:
            try:
                if self._single:
                    self._join()
                self._journal.complete(summary)
            except OSError as error:
                raise self._failed(error) from error
        if self._single:
            shutil.rmtree(self._folder)
        self._journal.close()

    @contextmanager
    def _part_at_stake(self) -> Iterator[None]:
        """Give up the part being written where anything, Ctrl-C too, comes between: it may hold half a batch."""
        try:
            yield
        except BaseException as error:
            if self._file is not None:
                Path(self._file.name).unlink(missing_ok=True)
            self._file = self._table = None
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise

    def _open_part(self) -> Table:
        name = f"part-{len(self._journal.parts):05d}.{self._format}"
        self._file = (self._folder / f"{name}.tmp").open("wb")
        self._table = TABLES[self._format](self._file, self._columns)
        self._rows = 0
        self._status: Counter[str] = Counter()
        self._digest = hashlib.sha256()
        self._opened = time.monotonic()
        return self._table

    def _join(self) -> None:
        temporary = self.out.with_name(f"{self.out.name}.tmp")
        with temporary.open("wb") as file:
            parts = [self._folder / part.name for part in self._journal.parts]
            TABLES[self._format].join(parts, file, self._columns)
            _sync(file)
        temporary.replace(self.out)
        _sync_folder(self.out.parent)

    def _remove_uncommitted(self) -> None:
        committed = {part.name for part in self._journal.parts}
        for path in self._folder.glob("part-*"):
            if path.name not in committed:
                path.unlink()

    def _changed(self, what: str) -> UsageError:
        return UsageError(
            f"`--resume` needs the inputs that the run was begun with, and the list has changed: {what}. "
            "Use the same again, or begin anew with `--overwrite`."
        )

    def _failed(self, error: OSError) -> KerasxferError:
        done = sum(part.rows for part in self._journal.parts)
        return KerasxferError(
            f"`{self.out}` cannot be written: {error.strerror or error}. {done:,} rows in {len(self._journal.parts):,} "
            "parts are safe: mend the cause, and go on with `--resume`."
        )


def _add_path(digest: Any, path: str) -> None:
    digest.update(path.encode("utf-8", "surrogateescape") + b"\0")


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
