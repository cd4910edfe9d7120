"""Pictures inside zip and tar archives, read without unpacking them to disk.

A row is called `archive.zip/member.jpg`. Members of a zip come in the order of its directory, each read when its turn
comes to be decoded; a tar is read from front to back, as compressed ones must be.
"""

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.inputs.input import MAX_BYTES, Input, failed_input, given_input, too_large

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_ENCRYPTED = 0x1


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its suffix."""
    return name.lower().endswith((".zip", *_TAR_SUFFIXES))


def read_archive(name: str, wanted: Callable[[str], bool], file: IO[bytes] | None = None) -> Iterator[Input]:
    """Pictures in an archive.

    Args:
        name: path of the archive, the first part of the rows' paths.
        wanted: tells by its name whether a member is taken.
        file: the open archive. Defaults to the file `name`.

    Yields:
        One `Input` per member wanted; and one with the status `"archive"` where the archive cannot be read (on).
    """
    read = _read_zip if name.lower().endswith(".zip") else _read_tar
    try:
        yield from read(name, file or open(name, "rb"), wanted)  # noqa: PTH123, SIM115
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        yield failed_input(name, "archive", f"{name!r} cannot be read to its end: {error}")


def _read_zip(name: str, file: IO[bytes], wanted: Callable[[str], bool]) -> Iterator[Input]:
    # Not closed at the end of this loop: members are read later, by the workers. The last of them takes it along.
    archive = zipfile.ZipFile(file)
    for member in archive.infolist():
        if member.is_dir() or not wanted(member.filename):
            continue
        path = f"{name}/{member.filename}"
        if member.file_size > MAX_BYTES:
            yield too_large(path, member.file_size)
        elif member.flag_bits & _ENCRYPTED:
            yield failed_input(path, "unreadable", f"{path!r} is encrypted")
        else:
            yield Input(path, _Member(archive, member, path), member.file_size)


class _Member:
    """Reads a member of a zip. The open archive cannot go to another process, so what is in the member goes there."""

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: str) -> None:
        self._archive, self._member, self._path = archive, member, path

    def __call__(self) -> bytes:
        try:
            return self._archive.read(self._member)
        except Exception as error:  # zlib, bz2, lzma and zipfile each have errors of their own
            raise ImageError("corrupt", f"{self._path!r} cannot be unpacked: {error}") from error

    def __reduce__(self) -> Any:
        try:
            return given_input(self._path, self()).open.__reduce__()
        except ImageError as error:
            return failed_input(self._path, error.code, str(error)).open.__reduce__()


def _read_tar(name: str, file: IO[bytes], wanted: Callable[[str], bool]) -> Iterator[Input]:
    with file, tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            if member.isdir() or not wanted(member.name):
                continue
            path = f"{name}/{member.name}"
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:  # links and devices: following one could lead out of the archive
                yield failed_input(path, "not_a_file", f"{path!r} is a link or device, not a file")
            elif member.size > MAX_BYTES:
                yield too_large(path, member.size)
            else:
                yield given_input(path, content.read())
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile remembers every member it has passed
