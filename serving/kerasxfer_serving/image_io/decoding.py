"""Opens an image, or says in a typed error what is wrong with it.

The content decides what a file is, not its name: a signature picks the one Pillow plugin that may read it, so no
other plugin (PostScript through Ghostscript, say) ever runs on a file from elsewhere.

A file of a kilobyte can ask for gigabytes and for hours, so what one image may cost is limited: pixels, bytes, and
seconds of a core. Pillow's own limit, 179 million pixels, stops neither many decoding threads at once nor a small image
that is slow.
"""

import io
import os
import re
import stat
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io.formats import HEAD, NAMES, format_of, refuse_unreadable
from kerasxfer_serving.image_io.jpeg import check_scans, require_whole_scans
from kerasxfer_serving.runtime.resources import available_cores, available_memory

Source: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray[Any, Any]

ERROR_CODES = {
    "not_found": "no such file",
    "broken_link": "a symbolic link to nothing",
    "is_directory": "a directory where an image was expected",
    "not_a_file": "a pipe, socket or device",
    "unreadable": "the file exists but cannot be read (permission, I/O error)",
    "empty": "zero bytes",
    "not_an_image": "the content is none of the supported formats",
    "unsupported": "an image of an unsupported kind (no plugin, floating-point samples, odd array)",
    "truncated": "the file ends before its image data does",
    "corrupt": "the image data contradict themselves",
    "decompression_bomb": "more pixels, bytes or work than allowed (`max_pixels`)",
    "archive": "an archive that cannot be read, or not to its end",
    "worker_died": "decoding it repeatedly killed its process (`--engine ray`)",
}

MAX_BYTES = 512 << 20
"""Larger than any image worth classifying; a bomb in an archive unpacks to more."""

_OPEN_SECONDS = 2.0
_DECODE_SECONDS = 10.0
_MOST_PIXELS, _LEAST_PIXELS = 120_000_000, 50_000_000  # the largest cameras of telephones have 108 million
_BYTES_OF_A_PIXEL = 16  # WebP, the hungriest, while it is decoded
_TILE_WIDTH, _TILE_HEIGHT = 322, 323

# Pillow refuses an image whose metadata unpack to more than a megabyte in one piece; 64 in all are harmless.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

_TOO_MUCH = re.compile("too large|too much memory", re.IGNORECASE)
_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}


@contextmanager
def open_image(source: Source, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """Open an image of any kind for reading; the pixels are decoded by the caller within the context.

    Args:
        source: Path, encoded bytes, binary file, `PIL.Image.Image`, or uint8 array `[h, w]` or `[h, w, 1 | 3 | 4]`.
        max_pixels: Pixels that a file's image may have. Defaults to `None`, `default_max_pixels()`.

    Raises:
        ImageError: With one of `ERROR_CODES`; also in place of whatever Pillow raises within the context.
    """
    if isinstance(source, Image.Image):
        with _typed_errors("the image given", None):
            yield source
    elif isinstance(source, np.ndarray):
        yield _from_array(source)
    else:
        max_pixels = max_pixels or default_max_pixels()
        with _open_binary(source, max_pixels) as (name, file), _typed_errors(name, file):
            _allow_pixels(max_pixels)
            guarded = _GuardedFile(file, max_pixels)
            with Image.open(guarded, "r", [_sniff(file)]) as image:
                _check_cost(image, guarded, max_pixels)
                require_whole_scans(image, file)
                guarded.opened()
                yield image


@cache
def default_max_pixels() -> int:
    """Pixels of one image by default: as many as every core may decode at once in half of the memory.

    At least 50 and at most 120 million.
    """
    fit = available_memory() // (2 * available_cores() * _BYTES_OF_A_PIXEL)
    return min(_MOST_PIXELS, max(_LEAST_PIXELS, fit))


def _max_bytes(max_pixels: int) -> int:
    """Bytes that a file may have: `MAX_BYTES`, or eight for every pixel that is allowed where that is more."""
    return max(MAX_BYTES, 8 * max_pixels)


class _GuardedFile:
    """A file for Pillow to read from, until decoding has cost more seconds of a core than any honest image.

    Args:
        file: Seekable binary file.
        max_pixels: Pixels that are allowed.

    Raises:
        ImageError: If the file is larger than `max_pixels` explain.
    """

    def __init__(self, file: IO[bytes], max_pixels: int) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if self.size > (most := _max_bytes(max_pixels)):
            raise _bomb(f"has {self.size:,} bytes; at most {most:,} are read")
        self._started = time.thread_time()
        self._seconds = _OPEN_SECONDS
        self._reads = 0

    def opened(self) -> None:
        """The header has been read: the time for decoding begins."""
        self._seconds = _DECODE_SECONDS

    def read(self, size: int = -1) -> bytes:
        self._reads += 1
        if (self._reads & 63 == 0 or not 0 <= size < 4096) and time.thread_time() - self._started > self._seconds:
            raise _bomb(f"takes more than {self._seconds:g} seconds of a core")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _allow_pixels(max_pixels: int) -> None:
    """Raise Pillow's own limit, which holds for the whole process, where more pixels are asked for than it allows."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def _check_cost(image: Image.Image, file: _GuardedFile, max_pixels: int) -> None:
    """Refuse an image, of which only the header has been read, that is too large or not honest about its size.

    Raises:
        ImageError: With the code `"decompression_bomb"` or `"truncated"`.
    """
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise _bomb(f"has {pixels:,} pixels; at most {max_pixels:,} are decoded, set by `max_pixels`")
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        if (tile := tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0)) > max_pixels:
            raise _bomb(f"has tiles of {tile:,} pixels; at most {max_pixels:,} are decoded, set by `max_pixels`")
    elif image.format in ("JPEG", "MPO"):
        check_scans(image, file, file.size)


def _bomb(message: str) -> ImageError:
    return ImageError("decompression_bomb", message)


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    known_shape = array.size > 0 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)))
    if not known_shape or array.dtype != np.uint8:
        raise ImageError(
            "unsupported",
            "An array `source` must be uint8, 0 to 255, of shape [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]. "
            f"Received: shape {array.shape}, dtype {array.dtype}",
        )
    return Image.fromarray(array)


@contextmanager
def _open_binary(
    source: str | os.PathLike[str] | bytes | IO[bytes], max_pixels: int
) -> Iterator[tuple[str, IO[bytes]]]:
    """Name for messages, and a seekable binary file."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield f"{len(source)} bytes", io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        name = repr(os.fspath(source))
        try:
            file = open_regular(source, name)
        except OSError as error:
            raise ImageError("unreadable", f"{name} cannot be read: {error.strerror or error}") from error
        with file:
            yield name, file
    elif hasattr(source, "read"):
        name = repr(getattr(source, "name", "a binary file"))
        yield name, source if source.seekable() else io.BytesIO(source.read(_max_bytes(max_pixels) + 1))
    else:
        raise TypeError(
            "`source` must be a path, bytes, a binary file, a PIL image or a NumPy array. "
            f"Received: source={source!r} (of type {type(source)})"
        )


def open_regular(path: str | os.PathLike[str], name: str) -> IO[bytes]:
    """Open a regular file; an `ImageError` for what is not there, or is none."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  (a third of the time of Path.stat, and this runs per image)
    except FileNotFoundError as error:
        if Path(path).is_symlink():
            raise ImageError("broken_link", f"{name} is a link to a file that does not exist") from error
        raise ImageError("not_found", f"{name} does not exist") from error
    except ValueError as error:
        raise ImageError("not_found", f"{name} is not a valid file name: {error}") from error
    if stat.S_ISDIR(mode):
        raise ImageError("is_directory", f"{name} is a directory")
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise ImageError("not_a_file", f"{name} is a pipe, socket or device, not a file")
    return open(path, "rb")  # noqa: PTH123  (as above)


def _sniff(file: IO[bytes]) -> str:
    """Pillow's name of the format, from the first bytes."""
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        raise ImageError("empty", "zero bytes")
    name = format_of(head)
    if name is None:
        raise ImageError("not_an_image", f"the content is none of the supported formats ({', '.join(NAMES)})")
    refuse_unreadable(name)
    return name


@contextmanager
def _typed_errors(name: str, file: IO[bytes] | None) -> Iterator[None]:
    """Turn what Pillow's plugins raise, which is almost anything, into an `ImageError` that names the image."""
    with _muted():
        try:
            yield
        except ImageError as error:
            raise ImageError(error.code, f"{name}: {error}") from error
        except Exception as error:
            raise _classify(error, name, file) from error


def _classify(error: Exception, name: str, file: IO[bytes] | None) -> ImageError:
    text = str(error)
    if isinstance(error, Image.DecompressionBombError | MemoryError) or _TOO_MUCH.search(text):
        return ImageError("decompression_bomb", f"{name}: {text or 'does not fit into memory'}")
    if isinstance(error, OSError) and error.errno is not None:
        return ImageError("unreadable", f"{name} cannot be read: {error.strerror}")
    if isinstance(error, UnidentifiedImageError):  # Pillow's words for it name a Python object
        text = "its header cannot be read"
    if _ends_early(file, otherwise="truncated" in text.lower()):
        return ImageError("truncated", f"{name} ends before its image does: {text}")
    return ImageError("corrupt", f"{name} cannot be decoded: {text or type(error).__name__}")


def _ends_early(file: IO[bytes] | None, *, otherwise: bool) -> bool:
    """Whether the file lacks the bytes that its format ends with; `otherwise` for a format that has none."""
    if file is None:
        return otherwise
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(HEAD)
    name = format_of(head)
    if name == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 > size
    file.seek(max(0, size - 64))
    return _LAST_BYTES[name] not in file.read(64) if name in _LAST_BYTES else otherwise


class _Muted(threading.local):
    """A filter for `warnings` that matches while the current thread decodes.

    `warnings.catch_warnings` changes the filters of all threads, and restores them in the wrong order when two
    threads decode at once. Whoever copies the filters, as scikit-learn does for its workers, gets one that matches
    nothing.
    """

    pattern = r"(?!)"
    decoding = False

    def match(self, text: str) -> bool:
        return self.decoding

    def __reduce__(self) -> tuple[Any, ...]:
        return re.compile, (self.pattern,)


_MUTED = _Muted()
_FILTER: Any = ("ignore", _MUTED, Warning, None, 0)


@contextmanager
def _muted() -> Iterator[None]:
    if not warnings.filters or warnings.filters[0] is not _FILTER:
        warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    before, _MUTED.decoding = _MUTED.decoding, True
    try:
        yield
    finally:
        _MUTED.decoding = before
