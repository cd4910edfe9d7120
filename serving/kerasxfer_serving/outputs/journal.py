"""The journal of a run: what was asked for and which parts are done, a JSON line each, so that a killed run goes on.

A part counts once its line is here, complete and on disk. A line that a crash tore off is cut away.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from kerasxfer_serving.errors import UsageError


@dataclass(frozen=True)
class Part:
    """A part that is done.

    Args:
        name: its file's name.
        rows: how many rows it has.
        paths_sha256: hash of the names of its inputs, in order.
        status: number of rows by status.
    """

    name: str
    rows: int
    paths_sha256: str
    status: dict[str, int]


class Journal:
    """The journal in a file, open for more lines and locked against other runs.

    Args:
        path: the file; made if it is not there.

    Attributes:
        run: what was asked for, `None` in a new journal.
        parts: the parts done.
        summary: the summary of a complete run, else `None`.
    """

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("ab")
        _lock(self._file, path)
        self.run, self.parts, self.summary, end = _read(path)
        self._file.truncate(end)

    def begin(self, run: Mapping[str, Any], versions: Mapping[str, Any]) -> None:
        """Say what is asked for, before the first part."""
        self.run = dict(run)
        self._append({"run": self.run, "versions": versions})

    def commit(self, part: Part) -> None:
        """Add a part."""
        self.parts.append(part)  # first: interrupted in between, the journal in memory must not seem empty
        self._append({"part": asdict(part)})

    def complete(self, summary: Mapping[str, Any]) -> None:
        """Close the run: all inputs are done."""
        self._append({"summary": summary})
        self.summary = dict(summary)

    def require_same(self, run: Mapping[str, Any]) -> None:
        """Check that the run asked for is the one begun.

        Raises:
            UsageError: something that decides the rows has changed.
        """
        for key, value in json.loads(json.dumps(run)).items():
            if (before := (self.run or {}).get(key)) != value:
                raise UsageError(
                    f"`--resume` needs the run that was begun, and `{key}` has changed: it was {before!r:.200}. "
                    f"Received: {value!r:.200}. Use the same again, or begin anew with `--overwrite`."
                )

    def close(self) -> None:
        """Let go of the file and its lock."""
        self._file.close()

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def begun_run(path: Path) -> dict[str, Any] | None:
    """What a journal says was asked for; `None` without a journal."""
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any] | None, list[Part], dict[str, Any] | None, int]:
    """Run, parts, summary, and where the last whole line ends."""
    entries: dict[str, Any] = {}
    parts: list[Part] = []
    end = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        if "part" in entry:
            parts.append(Part(**entry["part"]))
        entries |= entry
        end += len(line)
    return entries.get("run"), parts, entries.get("summary"), end


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows keeps others from replacing an open file by itself
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(f"Another run is writing here. Received: `{path}` is locked.") from None
