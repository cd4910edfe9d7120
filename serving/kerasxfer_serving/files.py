"""Files that are there in full or not at all, whatever happens while they are written; and sizes for people."""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from kerasxfer_serving.errors import UsageError, WriteError

_REMEDIES = {
    errno.ENOSPC: "Free some space, or name another place.",
    errno.EDQUOT: "Free some space, or name another place.",
    errno.EFBIG: "The file system or a limit (`ulimit -f`) refuses files of this size.",
    errno.EROFS: "Name a place that can be written to.",
    errno.EACCES: "Name another place, or have its permissions changed.",
    errno.EPERM: "Name another place, or have its permissions changed.",
    errno.ENOENT: "Create the folder first, or name another place.",
    errno.ENOTDIR: "A file stands where a folder is needed: name another place.",
    errno.EISDIR: "It is a folder: name a file in it.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def write_atomically(path: str | Path, content: str | bytes | Iterable[bytes | memoryview]) -> None:
    """Write a file so that it is there in full or not at all, on disk when this returns.

    Args:
        path: The file. Whatever it held is kept until the new content is complete.
        content: Text, written in UTF-8 with the bytes of file names that are not UTF-8 kept; or bytes, in one piece or
            several.

    Raises:
        OSError: It cannot be written; see `writing`.

    Example:

    ```python
    write_atomically("summary.json", '{"accuracy": 0.97}')
    ```
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    with atomic_file(path) as file:
        file.writelines((content,) if isinstance(content, bytes) else content)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the context ends without an error, and is removed otherwise.

    Args:
        path: The file. Where it is a device or a pipe it is written to directly: there is nothing to replace.

    Yields:
        The open file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            sync(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def require_writable(path: str | Path) -> None:
    """See whether a file can be written, before the work whose result it is to hold.

    Raises:
        OSError: It cannot; see `writing`.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.is_file() or not path.exists():
        with TemporaryFile(dir=path.parent):
            pass


def sync(file: IO[bytes]) -> None:
    """Have what was written to a file on disk before anything else happens."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk: of files created, replaced and removed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network file systems that sync by themselves
            raise
    finally:
        os.close(descriptor)


@contextmanager
def writing(what: str | Path, remedy: str | None = None) -> Iterator[None]:
    """Turn what the operating system says about writing into what a person can do about it.

    Args:
        what: What is written, for the message.
        remedy: What to do about it. Defaults to what usually helps.

    Raises:
        WriteError: Anything within the context raised an `OSError`. A broken pipe stays what it is.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        remedy = remedy or _REMEDIES.get(error.errno or 0, "Mend the cause, or name another place.")
        raise WriteError(f"`{what}` cannot be written: {error.strerror or error}. {remedy}") from error


def format_bytes(size: float) -> str:
    """`1234567` as `1.2 MB`.

    Example:

    >>> format_bytes(1234567)
    '1.2 MB'
    """
    unit = max((unit for unit, factor in _UNITS.items() if size >= factor), key=_UNITS.__getitem__, default="B")
    return f"{size:.0f} B" if unit == "B" else f"{size / _UNITS[unit]:.1f} {unit}"


def parse_bytes(text: str) -> int:
    """`"20GB"`, `"1.5 MB"` or `"4096"` as bytes.

    Raises:
        UsageError: It is not a size.

    Example:

    >>> parse_bytes("20GB")
    20000000000
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kKMGT]?B)?", text.strip())
    if match is None:
        raise UsageError(f"A size is a number and one of {', '.join(_UNITS)}, such as 20GB. Received: {text!r}")
    number, unit = match.groups()
    return int(float(number) * _UNITS[(unit or "B").replace("K", "k")])
