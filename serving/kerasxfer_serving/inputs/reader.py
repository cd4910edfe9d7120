"""Where images come from: files, folders, globs, lists, standard input, archives and object storage.

Every kind gives a lazy iterator of `Input`, in a stable order and with nothing opened before its turn: a million
images take no more memory than a thousand. URLs are read through fsspec: `s3://`, `gs://`, `https://`, `memory://`,
`file://`.
"""

import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from kerasxfer_serving.errors import ImageError, UsageError
from kerasxfer_serving.image_io.decoding import MAX_BYTES
from kerasxfer_serving.inputs.archives import is_archive, read_archive
from kerasxfer_serving.inputs.input import Input, failed_input, given_input, too_large
from kerasxfer_serving.inputs.lists import LIST_SUFFIXES, LONGEST_NAME, read_list
from kerasxfer_serving.inputs.walk import LeftOut, folders_left_out, is_image_name, reason_left_out_below, walk


class Reader:
    """The inputs that a command line names, in order.

    Args:
        sources: Each a file, a folder (searched for images, as `kerasxfer_serving.inputs.walk` says), a glob, a
            `.txt`, `.csv` or `.tsv` list, `"-"` for a list on standard input, a zip or tar archive, or a URL of one
            of these (fsspec).
        root: Folder that relative paths in lists start at. Defaults to the working directory.
        all_files: Take every file of folders and archives, whatever its name. Defaults to `False`.
        stdin: Binary file that `"-"` reads. Defaults to standard input.

    Attributes:
        left_out: What folders and archives held that was not taken.

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
        self.left_out = LeftOut()

    def __iter__(self) -> Iterator[Input]:
        self.left_out.clear()
        for source in self.sources:
            yield from self._read(source)

    @property
    def skipped(self) -> Counter[str]:
        """Number of files and folders that were not taken, by suffix or reason."""
        return self.left_out.counts

    @property
    def repeatable(self) -> bool:
        """Whether iterating a second time, to count, costs little: not so for standard input, archives and URLs."""
        return all(source != "-" and not is_archive(source) and not _is_remote(source) for source in self.sources)

    def _read(self, source: str) -> Iterator[Input]:
        suffix = Path(source).suffix.lower()
        if source == "-":
            return self._list(self.stdin or sys.stdin.buffer, "txt")
        if _is_remote(source):
            return _read_remote(source, self._wanted)
        if os.path.isdir(source):  # noqa: PTH112  (False for a name that no file can have)
            return self._walk(source)
        if os.path.exists(source):  # noqa: PTH110
            if is_archive(source):
                return read_archive(source, self._wanted)
            if suffix in LIST_SUFFIXES:
                return self._list_file(source, suffix[1:])
        elif glob.has_magic(source):
            return self._glob(source)
        return iter([local_input(source)])  # what is wrong with it, if nothing is there, is said in its row

    def _walk(self, folder: str) -> Iterator[Input]:
        for path, error in walk(folder, all_files=self.all_files, left_out=self.left_out):
            yield local_input(path) if error is None else failed_input(path, error.code, str(error))

    def _glob(self, pattern: str) -> Iterator[Input]:
        matches = sorted(glob.iglob(pattern, recursive=True))  # noqa: PTH207
        if not matches:
            raise UsageError(f"An input glob must match something. Received: {pattern!r}")
        for match in matches:
            if is_archive(match):
                yield from read_archive(match, self._wanted)
            elif not Path(match).is_dir() or is_image_name(os.path.basename(match)):  # noqa: PTH119
                if self._may_lie_there(_below_fixed_part(match, pattern)):
                    yield local_input(match)
            elif "**" not in pattern:  # which matches what the folder holds as well
                yield from self._walk(match)

    def _list_file(self, path: str, kind: str) -> Iterator[Input]:
        with open(path, "rb") as file:  # noqa: PTH123
            yield from self._list(file, kind)

    def _list(self, file: IO[bytes], kind: str) -> Iterator[Input]:
        return (self._listed(path) for path in read_list(file, kind))

    def _listed(self, path: str) -> Input:
        if len(path) > LONGEST_NAME:
            return failed_input(
                f"{path[:100]}…", "unreadable", f"a path in the list has more than {LONGEST_NAME:,} characters"
            )
        return _url_input(path) if _is_remote(path) else local_input(path, self.root)

    def _wanted(self, path: str) -> bool:
        """Whether the file `path` of a folder or archive, relative to it, is taken."""
        reason = None if self.all_files else reason_left_out_below(path)
        if reason is not None:
            self.left_out.add(reason, path)
        return reason is None

    def _may_lie_there(self, path: str) -> bool:
        """Whether the folders between a glob's fixed part and a match are searched; the glob chose the name itself."""
        reason = None if self.all_files else folders_left_out(path)
        if reason is not None:
            self.left_out.add(reason, path)
        return reason is None


def _below_fixed_part(match: str, pattern: str) -> str:
    """The POSIX path of a glob's match below the folders that the glob writes out."""
    fixed = os.path.dirname(re.split(r"[*?\[]", pattern, maxsplit=1)[0])  # noqa: PTH120
    return match.removeprefix(fixed).replace(os.sep, "/")


def local_input(path: str, root: str | Path | None = None) -> Input:
    """An input that is a file on this machine; its row is called `path`, unchanged."""
    return given_input(path, path if root is None else os.path.join(root, path))  # noqa: PTH118


def _is_remote(source: str) -> bool:
    """Whether a source is a URL."""
    return "://" in source


def _read_remote(url: str, wanted: Callable[[str], bool]) -> Iterator[Input]:
    """Inputs that a URL leads to: a file, a folder, a glob or an archive.

    Raises:
        UsageError: The package fsspec or the package for the protocol is not installed, or a glob matches nothing.
    """
    system, path = _file_system(url)
    try:
        yield from _search(system, path, url, wanted)
    except UsageError:
        raise
    except Exception as error:  # each protocol has its own errors: connection, permission, timeout
        yield failed_input(url, "unreadable", f"{url!r} cannot be searched: {error}")


def _search(system: Any, path: str, url: str, wanted: Callable[[str], bool]) -> Iterator[Input]:
    protocol = url.split("://", 1)[0]
    if any(character in path for character in "*?["):
        matches = sorted(system.glob(path))
        if not matches:
            raise UsageError(f"An input glob must match something. Received: {url!r}")
        for name in matches:
            match = f"{protocol}://{name}"
            if is_archive(name):
                yield from read_archive(match, wanted, partial(system.open, name))
            else:
                yield _remote_input(system, name, match)
    elif is_archive(url):
        yield from read_archive(url, wanted, partial(system.open, path))
    elif system.isdir(path):
        for name, about in sorted(system.find(path, detail=True).items()):
            below = name.removeprefix(path.rstrip("/"))
            if wanted(below):
                yield _remote_input(system, name, url.rstrip("/") + below, about.get("size"))
    else:
        yield _remote_input(system, path, url)


def _url_input(url: str) -> Input:
    """The input for the URL of one image, as in a list: what is wrong with it is said in its row."""
    return Input(url, partial(_find_and_fetch, url))


def _remote_input(system: Any, path: str, url: str, size: int | None = None) -> Input:
    if size is not None and size > MAX_BYTES:
        return too_large(url, size)
    return Input(url, partial(_fetch, system, path, url, size is not None), size)


def _find_and_fetch(url: str) -> bytes:
    try:
        system, path = _file_system(url)
    except UsageError as error:
        raise ImageError("unreadable", str(error)) from error
    return _fetch(system, path, url)


def _fetch(system: Any, path: str, url: str, known: bool = False) -> bytes:
    """The bytes of a file; of one whose size is not known, one more than are read, at most."""
    try:
        data: bytes
        if known:
            data = system.cat_file(path)
        else:
            with system.open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ImageError("not_found", f"{url!r} does not exist") from error
    except Exception as error:
        raise ImageError("unreadable", f"{url!r} cannot be fetched: {error}") from error
    if len(data) > MAX_BYTES:
        raise ImageError("decompression_bomb", f"{url!r} has more than {MAX_BYTES:,} bytes, the most that are read")
    return data


def _file_system(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise UsageError(
            f"Inputs by URL need fsspec: `pip install 'kerasxfer-serving[remote]'`. Received: {url!r}"
        ) from None
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{url!r} cannot be read: {error}") from error
    return system, path
