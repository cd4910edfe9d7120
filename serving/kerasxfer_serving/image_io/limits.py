"""What decoding one image may cost: pixels, bytes, and seconds of a core.

A file of a kilobyte can ask for gigabytes and for hours. Pillow's own limit, 179 million pixels, stops neither many
decoding threads at once nor a small image that is slow.
"""

import os
import time
from functools import cache
from typing import IO, Any

from PIL import Image, PngImagePlugin

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io.jpeg import HUFFMAN, first_scan
from kerasxfer_serving.runtime.resources import available_cores, available_memory

MAX_BYTES = 512 << 20
"""Larger than any image worth classifying; a bomb in an archive unpacks to more."""

_OPEN_SECONDS = 2.0
_DECODE_SECONDS = 10.0
_MOST_PIXELS, _LEAST_PIXELS = 120_000_000, 50_000_000  # the largest cameras of telephones have 108 million
_BYTES_OF_A_PIXEL = 16  # WebP, the hungriest, while it is decoded
_SCAN_PIXELS = 8_000_000_000  # a core's work for about five seconds
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_PROGRESSIVE = 0xC2
_SCAN = b"\xff\xda"

# Pillow refuses an image whose metadata unpack to more than a megabyte in one piece; 64 in all are harmless.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


@cache
def default_max_pixels() -> int:
    """Pixels of one image by default: as many as every core may decode at once in half of the memory.

    At least 50 and at most 120 million.
    """
    fit = available_memory() // (2 * available_cores() * _BYTES_OF_A_PIXEL)
    return min(_MOST_PIXELS, max(_LEAST_PIXELS, fit))


def max_bytes(max_pixels: int) -> int:
    """Bytes that a file may have: `MAX_BYTES`, or eight for every pixel that is allowed where that is more."""
    return max(MAX_BYTES, 8 * max_pixels)


class GuardedFile:
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
        if self.size > (most := max_bytes(max_pixels)):
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


def allow_pixels(max_pixels: int) -> None:
    """Raise Pillow's own limit, which holds for the whole process, where more pixels are asked for than it allows."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def check_cost(image: Image.Image, file: GuardedFile, max_pixels: int) -> None:
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
        _check_jpeg(image, file, pixels)


def _check_jpeg(image: Image.Image, file: GuardedFile, pixels: int) -> None:
    blocks = -(-image.width // 8) * -(-image.height // 8)
    progressive = "progressive" in image.info
    position = file.tell()  # behind the header of the first scan
    if not progressive and file.size - position > blocks // 4:
        return
    file.seek(0)
    data = file.read()
    if progressive and (scans := data.count(_SCAN)) * pixels > _SCAN_PIXELS:
        raise _bomb(f"has {scans:,} scans of {pixels:,} pixels")
    frame, start = first_scan(file)
    file.seek(position)
    # Huffman's code has at least a bit for the mean of every block of 8 × 8, and in one scan another for its end.
    if frame in HUFFMAN and 8 * (len(data) - start) < blocks * (1 if frame == _PROGRESSIVE else 2):
        raise ImageError("truncated", f"has {len(data) - start:,} bytes for {blocks:,} blocks of pixels: too few")


def _bomb(message: str) -> ImageError:
    return ImageError("decompression_bomb", message)
