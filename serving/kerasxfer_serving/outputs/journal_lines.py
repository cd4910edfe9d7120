"""The lines of a journal: written with a checksum each, and read up to the first one that is not as it was written."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.outputs.destination import is_part_name

FORMAT_VERSION = 2
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
class Content:
    """What a journal says; `end` is where its last good line ends, and `starts` where those of the parts begin."""

    run: dict[str, Any] | None = None
    parts: list[Part] = field(default_factory=list)
    summary: dict[str, Any] | None = None
    names: set[str] = field(default_factory=set)
    starts: list[int] = field(default_factory=list)
    end: int = 0
    version: int = FORMAT_VERSION


def read_journal(path: Path) -> Content:
    """Read a journal; one that is not there says nothing.

    Raises:
        UsageError: The file is something else.
    """
    data = path.read_bytes() if path.is_file() else b""
    lines = data.splitlines(keepends=True)
    content = Content()
    entries = [_entry(line) for line in lines]
    if lines and not any(entries):
        content.version = _version_without_checksums(path, lines[0])
    whole = content.version == FORMAT_VERSION
    for line, checked in zip(lines, entries, strict=True):
        entry = checked if content.version == FORMAT_VERSION else _json(line)
        content.names |= _names(entry)
        whole = whole and _take(content, entry, len(line))
    return content


def _take(content: Content, entry: dict[str, Any] | None, size: int) -> bool:
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
        return FORMAT_VERSION
    raise UsageError(f"`{path}` is needed for the run's journal but is something else. Move it away.")


def _names(entry: dict[str, Any] | None) -> set[str]:
    part = (entry or {}).get("part")
    return {part["name"]} if isinstance(part, dict) and is_part_name(part.get("name")) else set()


def journal_line(entry: Mapping[str, Any]) -> bytes:
    """A line, with the checksum at its end."""
    body = json.dumps(entry).encode()
    return body[:-1] + _CHECKSUM + f"{zlib.crc32(body):08x}".encode() + b'"}\n'


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says; `None` if it is not as it was written."""
    entry = _json(line)
    if entry is None or entry.pop("crc32", None) is None or journal_line(entry) != line:
        return None
    return entry


def _json(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
