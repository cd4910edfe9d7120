"""Where predictions go: parts that are committed one by one and, for a single file, joined at the end; or a stream.

Killed at any moment, a run leaves whole parts and a journal that names them. What is not in the journal does not count.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import IO, Any, Protocol

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.files import writing
from kerasxfer_serving.inputs.input import Input
from kerasxfer_serving.outputs.destination import Destination, OpenPart, PartFiles, add_path, require_result
from kerasxfer_serving.outputs.journal import Journal, Part
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.outputs.tables import TABLES, Row

_PART_SECONDS = 30.0

ToRows = Callable[[Predictions], Iterable[Row]]


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
    """Writes rows to an open binary file, such as standard output, as they come.

    Args:
        file: The file.
        format: `"csv"` or `"jsonl"`.
        columns: Names and types, of `kerasxfer_serving.outputs.predictions.columns`.
        to_rows: Makes rows of predictions. Defaults to `Predictions.rows`.
    """

    def __init__(
        self, file: IO[bytes], format: str, columns: Mapping[str, str], *, to_rows: ToRows = Predictions.rows
    ) -> None:
        self._file = file
        self._to_rows = to_rows
        with _writing_stream():
            self._table = TABLES[format](file, columns)

    def skip(self, inputs: Iterator[Input]) -> Counter[str]:
        return Counter()

    def write(self, predictions: Predictions) -> None:
        with _writing_stream():
            self._table.write(self._to_rows(predictions))
            self._file.flush()

    def stop(self) -> None:
        with _writing_stream():
            self._file.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        with _writing_stream():
            self._table.close()
            self._file.flush()


class PartWriter:
    """Writes parts, each committed as a whole, and continues where a killed run stopped.

    Args:
        destination: Where they go.
        columns: Names and types, of `kerasxfer_serving.outputs.predictions.columns`.
        run: All that decides the rows: model, options. Compared on resuming.
        versions: Of packages; recorded, not compared.
        resume: Continue what is there. Defaults to `False`.
        overwrite: Begin anew whatever is there; a file keeps its rows until the new ones are complete. Defaults to
            `False`.
        part_rows: Rows in a part at most; also closed after 30 seconds. Defaults to 50,000.
        to_rows: Makes rows of predictions. Defaults to `Predictions.rows`.

    Attributes:
        damaged: Name of the first part that was missing or had changed, or `None`: it and all that came after it are
            predicted again.

    Raises:
        UsageError: There is something in the way, another run is writing here, or `resume` meets another run.
        WriteError: Nothing can be written here.
    """

    def __init__(
        self,
        destination: Destination,
        columns: Mapping[str, str],
        *,
        run: Mapping[str, Any],
        versions: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
        part_rows: int = 50_000,
        to_rows: ToRows = Predictions.rows,
    ) -> None:
        self._destination = destination
        self._files = PartFiles(destination, columns)
        self._part_rows = part_rows
        self._to_rows = to_rows
        self._part: OpenPart | None = None
        self.damaged: str | None = None
        destination.require_free(resume=resume, overwrite=overwrite)
        with writing(destination.out):
            self._made_folder = not destination.folder.exists()
            destination.folder.mkdir(parents=True, exist_ok=True)
            made_journal = not destination.journal.exists()
            self._journal = Journal(destination.journal)
            try:
                destination.require_free(resume=resume or self._journal.is_empty, overwrite=overwrite)
                self._come_to(run, versions, anew=overwrite or self._journal.is_empty, leftovers=not made_journal)
            except BaseException:
                self._leave(made_journal)
                raise

    @property
    def complete(self) -> bool:
        """Whether the run was finished before."""
        return self._journal.summary is not None

    def skip(self, inputs: Iterator[Input]) -> Counter[str]:
        """Pass over the inputs of the parts that are done.

        Raises:
            UsageError: These are not the inputs that the parts were made of.
        """
        status: Counter[str] = Counter()
        for part in self._journal.parts:
            digest, rows = hashlib.sha256(), 0
            while rows < part.rows and (item := next(inputs, None)) is not None:
                add_path(digest, item.path)
                rows += 1
            if digest.hexdigest() != part.paths_sha256:
                raise _changed(f"inputs {status.total():,} to {status.total() + part.rows:,}")
            status.update(part.status)
        if self.complete and (item := next(inputs, None)) is not None:
            raise _changed(f"there are more than {status.total():,} now, first {item.path!r}")
        return status

    def write(self, predictions: Predictions) -> None:
        with self._part_at_stake():
            if self._part is None:
                self._part = self._files.open(len(self._journal.parts))
            self._part.write(predictions, self._to_rows(predictions))
        if self._part.rows >= self._part_rows or self._part.age >= _PART_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Close the part being written, so that it counts."""
        if self._part is not None:
            with self._part_at_stake():
                self._journal.commit(self._part.close())
            self._part = None

    def stop(self) -> None:
        self.commit()
        self._leave(nothing_done=not self._journal.parts and not self.complete)

    def finish(self, summary: Mapping[str, Any]) -> None:
        self.commit()
        with self._writing():
            if not self.complete:
                joined = self._files.join(self._journal.parts) if self._destination.single else {}
                self._journal.complete(summary, joined)
            if self._destination.single:
                self._files.remove(self._journal.names)
                self._files.remove_folder()
        self._journal.close()

    def _come_to(self, run: Mapping[str, Any], versions: Mapping[str, Any], *, anew: bool, leftovers: bool) -> None:
        """Come to a journal that has this run begun, and to exactly the parts that it names."""
        journal = self._journal
        kept: tuple[Part, ...] = ()
        if not anew:
            journal.require_same(run)
            if self.complete and self._destination.single:
                require_result(self._destination.out, journal.summary or {})
                return
            kept = tuple(itertools.takewhile(self._files.is_whole, journal.parts))
            if len(kept) < len(journal.parts):
                self.damaged = journal.parts[len(kept)].name
        names = {part.name for part in kept}
        if leftovers:
            self._files.remove(journal.names - names)
            self._files_of(journal.run or run).remove_after(len(kept), journal.names)
        self._files.require_no_others(names)
        if anew:
            journal.begin(run, versions)
        else:
            journal.keep(len(kept))

    def _files_of(self, run: Mapping[str, Any]) -> PartFiles:
        """The files that a run writes here, which may have another format and other columns."""
        return PartFiles(replace(self._destination, format=run["format"]), run["columns"])

    def _leave(self, nothing_done: bool) -> None:
        if not nothing_done:
            self._journal.close()
            return
        self._journal.remove()
        if self._made_folder or self._destination.single:
            self._files.remove_folder()

    @contextmanager
    def _part_at_stake(self) -> Iterator[None]:
        """Give up the part being written where anything, Ctrl-C too, comes between: it may hold half a batch."""
        with self._writing():
            try:
                yield
            except BaseException:
                if self._part is not None:
                    self._part.discard()
                self._part = None
                raise

    def _writing(self) -> AbstractContextManager[None]:
        parts = self._journal.parts
        if not parts:
            return writing(self._destination.out)
        done = f"{sum(part.rows for part in parts):,} rows in {len(parts):,} parts are safe"
        return writing(self._destination.out, f"{done}: fix the cause, then continue with `--resume`.")


def _writing_stream() -> AbstractContextManager[None]:
    return writing("standard output", "Send it elsewhere, or name a file with `-o OUT`.")


def _changed(what: str) -> UsageError:
    return UsageError(
        f"`--resume` needs the inputs that the run was begun with, and the list has changed: {what}. "
        "Use the same again, or begin anew with `--overwrite`."
    )
