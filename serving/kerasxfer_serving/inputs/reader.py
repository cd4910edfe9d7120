"""Where pictures come from: files, folders, globs, lists, standard input, archives and object storage.

Every kind gives a lazy iterator of `Input`, in a stable order and with nothing opened before its turn: a million
pictures take no more memory than a thousand.
"""

import codecs
import csv
import glob
import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.images import IMAGE_SUFFIXES
from kerasxfer_serving.inputs.archives import is_archive, read_archive
from kerasxfer_serving.inputs.input import Input, failed_input, given_input
from kerasxfer_serving.inputs.remote import is_remote, read_remote, remote_input

LIST_SUFFIXES = frozenset({".txt", ".csv", ".tsv"})
# Pillow needs a plugin for telephones' pictures. Without it they are not passed over: their rows say what is missing.
_PICTURE_SUFFIXES = IMAGE_SUFFIXES | {".heic", ".heif"}
_PATH_COLUMNS = ("path", "filename", "file", "image", "url")
_PEEK = 1 << 16


class Reader:
    """The inputs that a command line names, in order.

    Args:
        sources: each a file, a folder (walked for pictures by their suffix), a glob, a `.txt`, `.csv` or `.tsv`
            list, `"-"` for a list on standard input, a zip or tar archive, or a URL of one of these (fsspec).
        root: folder that relative paths in lists start at. Defaults to the working directory.
        all_files: take every file of folders and archives, whatever its suffix. Defaults to `False`.
        stdin: binary file that `"-"` reads. Defaults to standard input.

    Attributes:
        skipped: number of files by suffix that folders and archives held and that were not taken.

    Example:

    ```python
    for item in Reader(["photos/", "more.zip", "list.txt"]):
        print(item.path)
    ```
    """

    def __init__(
        self,
        sources: Sequence[str],
        *,
        root: str | Path | None = None,
        all_files: bool = False,
        stdin: IO[bytes] | None = None,
    ) -> None:
        self.sources = [os.fspath(source) for source in sources]
        self.root = root
        self.all_files = all_files
        self.stdin = stdin
        self.skipped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Input]:
        self.skipped.clear()
        for source in self.sources:
            yield from self._read(source)

    @property
    def repeatable(self) -> bool:
        """Whether iterating a second time, to count, costs little: not so for standard input, archives and URLs."""
        return all(source != "-" and not is_archive(source) and not is_remote(source) for source in self.sources)

    def _read(self, source: str) -> Iterator[Input]:
        suffix = Path(source).suffix.lower()
        if source == "-":
            return self._list(self.stdin or sys.stdin.buffer, "txt")
        if is_remote(source):
            return read_remote(source, self._wanted)
        if Path(source).is_dir():
            return self._walk(source)
        if Path(source).exists():
            if is_archive(source):
                return read_archive(source, self._wanted)
            if suffix in LIST_SUFFIXES:
                return self._list_file(source, suffix[1:])
        elif glob.has_magic(source):
            return self._glob(source)
        return iter([local_input(source)])  # what is wrong with a path that leads nowhere is said in its row

    def _walk(self, folder: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Input]:
        """Pictures below a folder, in the order of their sorted paths."""
        try:
            status = os.stat(folder)  # noqa: PTH116
            names = sorted(entry.name + "/" * _is_folder(entry) for entry in os.scandir(folder))
        except OSError as error:  # what it holds is not lost in silence
            yield failed_input(folder, "unreadable", f"{folder!r} cannot be listed: {error.strerror}")
            return
        identity = (status.st_dev, status.st_ino)
        if identity in above:  # a link that leads back up
            return
        for name in names:
            path = os.path.join(folder, name.rstrip("/"))  # noqa: PTH118  (keeps the folder's name as it was given)
            is_folder = name.endswith("/")
            if _has_image_suffix(path) if is_folder else self._wanted(name):
                yield local_input(path)  # a folder that is called like a picture gets a row too: somebody expects it
            if is_folder:
                yield from self._walk(path, (*above, identity))

    def _glob(self, pattern: str) -> Iterator[Input]:
        matches = sorted(glob.iglob(pattern, recursive=True))  # noqa: PTH207
        if not matches:
            raise UsageError(f"An input glob must match something. Received: {pattern!r}")
        for match in matches:
            if is_archive(match):
                yield from read_archive(match, self._wanted)
            elif not Path(match).is_dir() or _has_image_suffix(match):
                yield local_input(match)
            elif "**" not in pattern:  # which matches what the folder holds as well
                yield from self._walk(match)

    def _list_file(self, path: str, kind: str) -> Iterator[Input]:
        with open(path, "rb") as file:  # noqa: PTH123
            yield from self._list(file, kind)

    def _list(self, file: IO[bytes], kind: str) -> Iterator[Input]:
        return (self._listed(path) for path in read_list(file, kind))

    def _listed(self, path: str) -> Input:
        if is_remote(path):
            return remote_input(path)
        return local_input(path, self.root)

    def _wanted(self, name: str) -> bool:
        wanted = self.all_files or _has_image_suffix(name)
        if not wanted:
            self.skipped[os.path.splitext(name)[1].lower() or "no suffix"] += 1  # noqa: PTH122
        return wanted


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _has_image_suffix(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _PICTURE_SUFFIXES  # noqa: PTH122  (a third of Path's time, per file)


def local_input(path: str, root: str | Path | None = None) -> Input:
    """An input that is a file on this machine; its row is called `path`, unchanged."""
    return given_input(path, path if root is None else os.path.join(root, path))  # noqa: PTH118


def read_list(file: IO[bytes], kind: str) -> Iterator[str]:
    """Paths in a list.

    Args:
        file: binary. Names that are not UTF-8 keep their bytes.
        kind: `"txt"`: one path a line, or separated by NUL as `find -print0` does; `"csv"` or `"tsv"`: the column
            `path`, `filename`, `file`, `image` or `url` of a table with a header, else the first column.
    """
    reader = io.BufferedReader(file, _PEEK) if not hasattr(file, "peek") else file  # type: ignore[type-var]
    if kind != "txt":
        return _read_table(io.TextIOWrapper(reader, "utf-8-sig", "surrogateescape", newline=""), kind)
    if b"\0" in reader.peek(_PEEK):
        return _split(reader, b"\0")
    if reader.peek(3).startswith(codecs.BOM_UTF8):
        reader.read(3)
    return (os.fsdecode(name) for line in reader if (name := line.rstrip(b"\r\n")))


def _split(file: IO[bytes], separator: bytes) -> Iterator[str]:
    rest = b""
    while block := file.read(_PEEK):
        *whole, rest = (rest + block).split(separator)
        yield from (os.fsdecode(name) for name in whole if name)
    if rest:
        yield os.fsdecode(rest)


def _read_table(file: Iterable[str], kind: str) -> Iterator[str]:
    rows = csv.reader(file, delimiter="\t" if kind == "tsv" else ",")
    first = next(rows, [])
    names = [cell.strip().lower() for cell in first]
    column = next((names.index(name) for name in _PATH_COLUMNS if name in names), None)
    if column is None:
        column = 0
        yield from first[:1]
    try:
        yield from (row[column] for row in rows if len(row) > column and row[column])
    except csv.Error as error:
        raise UsageError(f"Line {rows.line_num} of the list is not {kind.upper()}: {error}") from error
