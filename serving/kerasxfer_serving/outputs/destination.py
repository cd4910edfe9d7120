"""What OUT names, one file or a folder of parts; and the parts there: written, checked, removed and joined.

Nothing but the files of a run is ever touched.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.files import atomic_file, sync, sync_folder
from kerasxfer_serving.outputs.journal import Part, is_part_name
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.outputs.tables import TABLES, Row

_UNFINISHED = ".tmp"


@dataclass(frozen=True)
class Destination:
    """Where the rows of a run go.

    Args:
        out: A file with the suffix of a table, or a folder for the parts.
        format: `"csv"`, `"jsonl"` or `"parquet"`.
    """

    out: Path
    format: str

    @classmethod
    def of(cls, out: str, format: str | None = None) -> "Destination":
        """The destination that a command line names.

        Args:
            out: A file or folder.
            format: The format asked for. Defaults to that of the file's suffix, and to parquet in a folder.

        Raises:
            UsageError: The name is neither, or the format is not that of the file.
        """
        path = Path(out)
        if path.suffix and not (is_single_file(path) or path.is_dir() or out.endswith("/")):
            raise UsageError(
                "OUT is a .csv, .jsonl or .parquet file, or a folder: an existing one, or a name without suffix, or "
                f"with a slash at its end. Received: -o {out}"
            )
        if not is_single_file(path):
            return cls(path, format or "parquet")
        suffix = path.suffix[1:].lower()
        if format not in (None, suffix):
            raise UsageError(f"`--format` must be that of OUT. Received: --format {format} -o {out}")
        return cls(path, suffix)

    @property
    def single(self) -> bool:
        """Whether the result is one file."""
        return is_single_file(self.out)

    @property
    def journal(self) -> Path:
        """The file that the journal is kept in."""
        return journal_path(self.out)

    @property
    def folder(self) -> Path:
        """The folder that the parts are written to."""
        return self.out.with_name(f"{self.out.name}.parts") if self.single else self.out

    def part(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{number:05d}.{self.format}"

    def require_free(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse what is in the way.

        Args:
            resume: Whether a run that is there is continued.
            overwrite: Whether the run or the file that is there is done away with.

        Raises:
            UsageError: There is something, and it is neither to be continued nor to be overwritten.
        """
        out = self.out
        if out.is_dir() if self.single else out.is_file():
            kinds = ("folder", "file") if self.single else ("file", "folder for the parts")
            raise UsageError(f"`{out}` is a {kinds[0]}, and the result is a {kinds[1]}. Choose another name.")
        if overwrite:
            return
        if self.journal.exists():
            if not resume:
                raise UsageError(
                    f"`{out}` already holds a run. Continue it with `--resume`, or start over with `--overwrite`."
                )
        elif out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise UsageError(f"`{out}` exists but has no journal of a run. Choose another name, or use `--overwrite`.")

    def require_apart(self, sources: Iterable[str], *, all_files: bool = False) -> None:
        """Refuse to write over what is read.

        Args:
            sources: Files and folders that are read.
            all_files: Whether every file of these folders is read, so that the result would be among them.

        Raises:
            UsageError: One of them is OUT or what a run keeps beside it, or would come to hold it.
        """
        ours = {os.path.realpath(path) for path in (self.out, self.journal, self.folder)}
        for source in sources:
            place = os.path.realpath(source)
            within = all_files and os.path.realpath(self.out).startswith(os.path.join(place, ""))  # noqa: PTH118
            if place in ours or within:
                raise UsageError(f"OUT must not be among the inputs. Received: -o {self.out}, input {source}")


def is_single_file(out: Path) -> bool:
    """Whether the result is one file, by its suffix; else it is a folder of parts."""
    return out.suffix[1:].lower() in TABLES


def journal_path(out: Path) -> Path:
    """Where the journal of a run is kept."""
    return out.with_name(f"{out.name}.run.jsonl") if is_single_file(out) else out / "_run.jsonl"


class OpenPart:
    """A part being written, under a name of its own until it is whole.

    Args:
        path: Its file.
        format: `"csv"`, `"jsonl"` or `"parquet"`.
        columns: Names and types of the columns.
    """

    def __init__(self, path: Path, format: str, columns: Mapping[str, str]) -> None:
        self._path = path
        self._temporary = _unfinished(path)
        self._file = self._temporary.open("x+b")
        self._table = TABLES[format](self._file, columns)
        self._status: Counter[str] = Counter()
        self._digest = hashlib.sha256()
        self._opened = time.monotonic()

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._status.total()

    @property
    def age(self) -> float:
        """Seconds since it was opened."""
        return time.monotonic() - self._opened

    def write(self, predictions: Predictions, rows: Iterable[Row]) -> None:
        """Append the rows of a batch."""
        self._table.write(rows)
        self._status.update(predictions.status)
        for path in predictions.paths:
            add_path(self._digest, path)

    def close(self) -> Part:
        """Give it its name, on disk; returns what the journal is to say of it."""
        with self._file as file:
            self._table.close()
            sync(file)
            size = file.tell()
            file.seek(0)
            content = hashlib.file_digest(file, "sha256").hexdigest()
        self._temporary.replace(self._path)
        sync_folder(self._path.parent)
        return Part(self._path.name, self.rows, size, content, self._digest.hexdigest(), dict(self._status))

    def discard(self) -> None:
        """Give it up."""
        with suppress(OSError):  # closing writes what is buffered, and the disk may be full
            self._file.close()
        self._temporary.unlink(missing_ok=True)


class PartFiles:
    """The parts of a destination.

    Args:
        destination: Where they are.
        columns: Names and types of their columns.
    """

    def __init__(self, destination: Destination, columns: Mapping[str, str]) -> None:
        self._destination = destination
        self._columns = columns

    def open(self, number: int) -> OpenPart:
        """Begin a part."""
        return OpenPart(self._destination.part(number), self._destination.format, self._columns)

    def is_whole(self, part: Part) -> bool:
        """Whether the file of a part is there, and as it was written."""
        return _has_content(self._destination.folder / part.name, part.bytes, part.sha256)

    def remove(self, names: Iterable[str]) -> None:
        """Remove parts that the journal names."""
        for name in names:
            (self._destination.folder / name).unlink(missing_ok=True)

    def remove_after(self, count: int, names: Set[str]) -> None:
        """Remove all parts of a run but the first ones: those it named, and what it wrote before it was killed.

        Args:
            count: How many parts are kept.
            names: Those that its journal names. What it does not name is of this run only where it comes next, and
                begins as its tables do.
        """
        number = count
        while (path := self._destination.part(number)).name in names or path.is_file() or _unfinished(path).is_file():
            _unfinished(path).unlink(missing_ok=True)
            if path.is_file() and path.name not in names and not self._is_ours(path):
                return
            path.unlink(missing_ok=True)
            number += 1

    def remove_folder(self) -> None:
        """Remove the folder, unless somebody else has put something there."""
        with suppress(OSError):
            self._destination.folder.rmdir()

    def require_no_others(self, names: Iterable[str]) -> None:
        """Refuse files that are called as parts are, and are none of this run's.

        Raises:
            UsageError: There is one: it would be overwritten, or be taken for a part.
        """
        folder, known = self._destination.folder, set(names)
        for path in sorted(folder.glob(f"part-*.{self._destination.format}*")):
            if is_part_name(path.name.removesuffix(_UNFINISHED)) and path.name not in known:
                raise UsageError(f"`{path}` is in the way, and no journal lists it. Move it away.")

    def join(self, parts: Sequence[Part]) -> dict[str, Any]:
        """Write all parts into one file; returns its size and hash."""
        out = self._destination.out
        with atomic_file(out) as file:
            paths = [self._destination.folder / part.name for part in parts]
            TABLES[self._destination.format].join(paths, file, self._columns)
        with out.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"bytes": file.tell(), "sha256": digest}

    def _is_ours(self, path: Path) -> bool:
        with path.open("rb") as file:
            return TABLES[self._destination.format].is_of(file, self._columns)


def require_result(out: Path, summary: Mapping[str, Any]) -> None:
    """Check that the file of a complete run is as the run left it.

    Raises:
        UsageError: It is missing or was changed; its parts are gone.
    """
    if not _has_content(out, summary.get("bytes"), summary.get("sha256")):
        raise UsageError(
            f"The run of `{out}` is complete, and the file is missing or has been changed since. Begin anew with "
            "`--overwrite`, or choose another name."
        )


def add_path(digest: Any, path: str) -> None:
    """Take the name of an input into a hash."""
    digest.update(path.encode("utf-8", "surrogateescape") + b"\0")


def _has_content(path: Path, size: Any, sha256: Any) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        return bool(hashlib.file_digest(file, "sha256").hexdigest() == sha256)


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + _UNFINISHED)
