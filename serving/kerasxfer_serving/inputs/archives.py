"""Images inside zip and tar archives, read without unpacking them to disk.

A row is called `archive.zip/member.jpg`. Members of a zip come in the order of its directory, each read when its turn
comes to be decoded; a tar is read from front to back, as compressed ones must be.
"""

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import IO, Any

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io.decoding import MAX_BYTES
from kerasxfer_serving.inputs.input import Input, failed_input, given_input, too_large

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_ENCRYPTED = 0x1
_LOCAL_HEADER = 30  # bytes before the name of a zip's member
_LONGEST_HEADER = 1 << 20

Opener = Callable[[], IO[bytes]]


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its suffix."""
    return name.lower().endswith((".zip", *_TAR_SUFFIXES))


def read_archive(name: str, wanted: Callable[[str], bool], opener: Opener | None = None) -> Iterator[Input]:
    """Images in an archive.

    Args:
        name: Path of the archive, the first part of the rows' paths.
        wanted: Tells by its name whether a member is taken.
        opener: Opens the archive. Defaults to `None`, the file `name`.

    Yields:
        One `Input` per member wanted; and one with the status `"archive"` where the archive cannot be read (on).
    """
    read = _read_zip if name.lower().endswith(".zip") else _read_tar
    try:
        yield from read(name, opener() if opener else _open_regular(name), wanted)
    except Exception as error:  # what zipfile, tarfile and the decompressors raise on broken files is without end
        message = str(error) or type(error).__name__
        yield failed_input(name, "archive", f"{name!r} cannot be read to its end: {message:.500}")


def _open_regular(name: str) -> IO[bytes]:
    if not stat.S_ISREG(os.stat(name).st_mode):  # noqa: PTH116  (opening a pipe would wait for ever)
        raise ValueError("it is a pipe, socket or device, not a file")
    return open(name, "rb")  # noqa: PTH123


def _read_zip(name: str, file: IO[bytes], wanted: Callable[[str], bool]) -> Iterator[Input]:
    # Not closed at the end of this loop: members are read later, by the workers. The last of them takes it along.
    try:
        archive = zipfile.ZipFile(file)
    except Exception:
        file.close()
        raise
    overlapping = _overlapping(archive.infolist())
    for member in archive.infolist():
        if member.is_dir() or not wanted(member.filename):
            continue
        path = f"{name}/{member.filename}"
        if member.file_size > MAX_BYTES:
            yield too_large(path, member.file_size)
        elif member.flag_bits & _ENCRYPTED:
            yield failed_input(path, "unreadable", f"{path!r} is encrypted")
        elif member.header_offset in overlapping:
            yield failed_input(path, "decompression_bomb", f"{path!r} shares its bytes with another member")
        else:
            yield Input(path, _Member(archive, member, path), member.file_size)


def _overlapping(members: list[zipfile.ZipInfo]) -> set[int]:
    """Where members begin that reach into the next: a few bytes would be unpacked again and again."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    return {
        member.header_offset
        for member, following in pairwise(ordered)
        if member.header_offset + _LOCAL_HEADER + member.compress_size > following.header_offset
    }


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


class _Header(tarfile.TarInfo):
    """A header of a tar that does not make up names of gigabytes."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        if not header.isreg() and header.size > _LONGEST_HEADER and not header.issparse():
            raise tarfile.TarError(f"a header of it claims {header.size:,} bytes")
        return header


def _read_tar(name: str, file: IO[bytes], wanted: Callable[[str], bool]) -> Iterator[Input]:
    with file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_Header) as archive:
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
