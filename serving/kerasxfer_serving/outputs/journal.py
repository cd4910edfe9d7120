"""The journal of a run: what was asked for and which parts are done, a JSON line each, so that a killed run goes on.

A part counts once its line is here, complete and on disk. Every line ends in a checksum of itself: nothing counts
from the first one on that a crash tore off, or that was damaged since.
"""

import json
import os
import re
import sys
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.files import sync
from kerasxfer_serving.outputs.tables import TABLES

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_LOCKED_BYTE = 1 << 40  # on Windows, where nobody can read what is locked: far behind the end
_FORMAT_VERSION = 2
_PART_NAME = re.compile(rf"part-[0-9]{{5,9}}\.(?:{'|'.join(TABLES)})")
_BEGINNING = b'{"format": "kerasxfer-predict", '
_CHECKSUM = b', "crc32": "'


@dataclass(frozen=True)
class Part:
    """A part that is done.

    Args:
        name: The name of its file.
        rows: How many rows it has.
        bytes: Size of its file.
        sha256: Hash of its file.
        paths_sha256: Hash of the names of its inputs, in order.
        status: Number of rows by status.

    Raises:
        ValueError: The name leads elsewhere, or is not that of a part.
    """

    name: str
    rows: int
    bytes: int
    sha256: str
    paths_sha256: str
    status: dict[str, int]

    def __post_init__(self) -> None:
        if not is_part_name(self.name):
            raise ValueError(f"`name` must be that of a part. Received: name={self.name!r}")


@dataclass
class _Content:
    """What a journal says; `end` is where its last good line ends, and `starts` where those of the parts begin."""

    run: dict[str, Any] | None = None
    parts: list[Part] = field(default_factory=list)
    summary: dict[str, Any] | None = None
    names: set[str] = field(default_factory=set)
    starts: list[int] = field(default_factory=list)
    end: int = 0
    version: int = _FORMAT_VERSION


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
            self._content = _read(path)
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
        self._content = _Content(run=dict(run))
        self._file.truncate(0)
        beginning = {"format": "kerasxfer-predict", "format_version": _FORMAT_VERSION}
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
        if self._content.version != _FORMAT_VERSION:
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
        line = _line(entry)
        self._file.write(line)
        sync(self._file)
        self._content.end += len(line)


def is_part_name(name: object) -> bool:
    """Whether a part may be called so: the name of a file in its folder, and nothing that leads elsewhere."""
    return isinstance(name, str) and _PART_NAME.fullmatch(name) is not None


def begun_run(path: Path) -> dict[str, Any]:
    """What a journal says was asked for; empty where there is no journal, or none that says it."""
    return _read(path).run or {}


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


def _read(path: Path) -> _Content:
    """Read a journal; one that is not there says nothing.

    Raises:
        UsageError: The file is something else.
    """
    data = path.read_bytes() if path.is_file() else b""
    lines = data.splitlines(keepends=True)
    content = _Content()
    entries = [_entry(line) for line in lines]
    if lines and not any(entries):
        content.version = _version_without_checksums(path, lines[0])
    whole = content.version == _FORMAT_VERSION
    for line, checked in zip(lines, entries, strict=True):
        entry = checked if content.version == _FORMAT_VERSION else _json(line)
        content.names |= _names(entry)
        whole = whole and _take(content, entry, len(line))
    return content


def _take(content: _Content, entry: dict[str, Any] | None, size: int) -> bool:
    """Take in the next line; returns whether it is good."""
    if entry is None or (content.run is None) is not ("run" in entry):
        return False
    if "part" in entry:
        try:
            content.parts.append(Part(**entry["part"]))
        except (TypeError, ValueError):
            return False
        content.starts.append(content.end)
    content.run = entry.get("run", content.run)
    content.version = entry.get("format_version", content.version)
    content.summary = entry.get("summary", content.summary)
    content.end += size
    return True


def _version_without_checksums(path: Path, first: bytes) -> int:
    """Version of a journal without one good line: 1, or one whose first line a crash tore off."""
    if "run" in (_json(first) or {}):
        return 1
    if first.startswith(_BEGINNING) or _BEGINNING.startswith(first):
        return _FORMAT_VERSION
    raise UsageError(f"`{path}` is needed for the run's journal but is something else. Move it away.")


def _names(entry: dict[str, Any] | None) -> set[str]:
    part = (entry or {}).get("part")
    return {part["name"]} if isinstance(part, dict) and is_part_name(part.get("name")) else set()


def _line(entry: Mapping[str, Any]) -> bytes:
    """A line, with the checksum at its end."""
    body = json.dumps(entry).encode()
    return body[:-1] + _CHECKSUM + f"{zlib.crc32(body):08x}".encode() + b'"}\n'


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says; `None` if it is not as it was written."""
    entry = _json(line)
    if entry is None or entry.pop("crc32", None) is None or _line(entry) != line:
        return None
    return entry


def _json(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
