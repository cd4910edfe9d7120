"""The journal of a run: what was asked for and which parts are done, a JSON line each, so that a killed run goes on.

A part counts once its line is here, complete and on disk. Every line ends in a checksum of itself: nothing counts
from the first one on that a crash tore off, or that was damaged since.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.files import sync
from kerasxfer_serving.outputs.journal_lines import FORMAT_VERSION, Content, Part, journal_line, read_journal

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_LOCKED_BYTE = 1 << 40  # on Windows, where nobody can read what is locked: far behind the end


class Journal:
    """The journal in a file, open for more lines and locked against other runs.

    Args:
        path: The file; made if it is not there.

    Raises:
        UsageError: Another run has it open, or the file is not a journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _open_locked(path)
        try:
            self._content = read_journal(path)
        except BaseException:
            self._file.close()
            raise

    @property
    def run(self) -> dict[str, Any] | None:
        """What was asked for; `None` in a new journal, and in one that does not know it any more."""
        return self._content.run

    @property
    def is_empty(self) -> bool:
        """Whether no run was begun here, or a crash tore off the very line that says so."""
        return self.run is None and not self.names

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts done."""
        return tuple(self._content.parts)

    @property
    def summary(self) -> dict[str, Any] | None:
        """The summary of a complete run, else `None`."""
        return self._content.summary

    @property
    def names(self) -> frozenset[str]:
        """All files that were ever named as parts of this run, also those that do not count."""
        return frozenset(self._content.names)

    def begin(self, run: Mapping[str, Any], versions: Mapping[str, Any]) -> None:
        """Forget what is there, and say what is asked for, before the first part."""
        self._content = Content(run=dict(run))
        self._file.truncate(0)
        beginning = {"format": "kerasxfer-predict", "format_version": FORMAT_VERSION}
        self._append(beginning | {"run": self.run, "versions": versions})

    def commit(self, part: Part) -> None:
        """Add a part."""
        # First: interrupted in between, the journal in memory must not seem empty.
        self._content.parts.append(part)
        self._content.starts.append(self._content.end)
        self._content.names.add(part.name)
        self._append({"part": asdict(part)})

    def complete(self, summary: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Close the run: all inputs are done.

        Args:
            summary: Counts and rates.
            result: Size and hash of the file that the parts were joined into; empty where they stay parts.
        """
        self._content.summary = {**summary, **result}
        self._append({"summary": self._content.summary})

    def keep(self, count: int) -> None:
        """Keep the first `count` parts, and nothing that was said after them."""
        content = self._content
        if count < len(content.parts):
            content.summary, content.end = None, content.starts[count]
            del content.parts[count:], content.starts[count:]
        content.names = {part.name for part in content.parts}
        self._file.truncate(content.end)
        sync(self._file)

    def require_same(self, run: Mapping[str, Any]) -> None:
        """Check that the run asked for is the one begun.

        Raises:
            UsageError: Something that decides the rows has changed; or the journal cannot tell.
        """
        if self._content.version != FORMAT_VERSION:
            raise UsageError(
                f"`{self._path}` is of another version of kerasxfer-serving. Finish the run with that version, or "
                "begin anew with `--overwrite`."
            )
        if self.run is None:
            raise UsageError(f"`{self._path}` is damaged where the run is described: begin anew with `--overwrite`.")
        for key, value in json.loads(json.dumps(run)).items():
            if (before := self.run.get(key)) != value:
                raise UsageError(
                    f"`--resume` needs the run that was begun, and `{key}` has changed: it was {before!r:.200}. "
                    f"Received: {value!r:.200}. Use the same again, or begin anew with `--overwrite`."
                )

    def remove(self) -> None:
        """Remove the file, while it is still locked."""
        if os.name == "nt":  # where no open file can be removed
            self._file.close()
        self._path.unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Let go of the file and its lock."""
        self._file.close()

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = journal_line(entry)
        self._file.write(line)
        sync(self._file)
        self._content.end += len(line)


def begun_run(path: Path) -> dict[str, Any]:
    """What a journal says was asked for; empty where there is no journal, or none that says it."""
    return read_journal(path).run or {}


def _open_locked(path: Path) -> IO[bytes]:
    """Open a file that nobody else has open so, and that still is the one of this name once it is locked."""
    while True:
        file = path.open("ab")
        try:
            _lock(file, path)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        if sys.platform == "win32":
            os.lseek(file.fileno(), _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise UsageError(
            f"Another run is writing here: `{path}` is locked. Wait until it ends, or choose another OUT."
        ) from None
