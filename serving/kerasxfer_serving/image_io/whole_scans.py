"""Whether a JPEG holds all of its pixels, though it ends as it should.

Where the data of a scan end too soon, libjpeg leaves the rest of the image grey and warns nobody. Without the marker
that ends the image it waits for more, and how it waits tells: within a scan for all the bytes that it reads ahead, so
that one more is left lying; behind a scan for a marker, and every other byte is skipped.
"""

import re
from typing import IO, Any, cast

from PIL import Image

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io.jpeg import HUFFMAN, first_scan

_DECODER = "jpeg_of_whole_scans"
_END = re.compile(b"\xff\xd9")  # three times as fast as `bytes.find`
_READ_AHEAD = b"\xff\0" * 8  # ones, which no Huffman code begins with: hardly a block ends in them
_BYTE = b"\0"
_RESTARTS = tuple(bytes([0xFF, marker, 0]) for marker in range(0xD0, 0xD8))
_NO_SEGMENT = frozenset({0, *range(0xD0, 0xD8)})


class _WholeScans:
    """Pillow's JPEG decoder, which raises where the image ends before one of its scans does.

    Args:
        mode: As for Pillow's.
        rawmode: As for Pillow's.
        jpegmode: As for Pillow's.
        start: Where the first scan begins. An image's thumbnail ends before it.
        *config: As for Pillow's.
    """

    def __init__(self, mode: str, rawmode: str, jpegmode: str, start: int, *config: int) -> None:
        self._decoder = cast(Any, Image).core.jpeg_decoder(mode, rawmode, jpegmode, *config)
        self._start = start
        self._ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def decode(self, buffer: bytes) -> tuple[int, int]:
        if not self._ended and (found := _END.search(buffer, max(0, self._start))):
            self._ended = True
            end = found.start()
            consumed, error = self._end_scan(buffer[:end])
            if consumed < 0:
                return consumed, error
            consumed, error = self._decode(buffer[end:])
            return consumed if consumed < 0 else end + consumed, error
        consumed, error = self._decode(buffer)
        self._start -= consumed
        return consumed, error

    def _end_scan(self, data: bytes) -> tuple[int, int]:
        consumed, error = self._decode(data)
        if consumed >= 2 and data[consumed - 2] == 0xFF and data[consumed - 1] not in _NO_SEGMENT:
            raise _truncated()
        for more in (_READ_AHEAD, _BYTE, *_RESTARTS):
            if consumed < 0:
                break
            data = data[consumed:] + more
            consumed, error = self._decode(data)
            if 0 <= consumed < len(data):
                raise _truncated()
        return consumed, error

    def _decode(self, data: bytes) -> tuple[int, int]:
        return cast(tuple[int, int], self._decoder.decode(data))


def _truncated() -> ImageError:
    return ImageError("truncated", "the file ends before its image data does")


Image.register_decoder(_DECODER, cast(Any, _WholeScans))


def require_whole_scans(image: Image.Image, file: IO[bytes]) -> None:
    """Let an opened JPEG raise, as it is decoded, where a scan is not whole; with arithmetic coding nothing shows it.

    Args:
        image: Opened, and not decoded.
        file: What it was opened from. Its position changes.
    """
    if image.format not in ("JPEG", "MPO"):
        return
    frame, start = first_scan(file)
    if frame in HUFFMAN:
        tiles = cast(Any, image).tile
        cast(Any, image).tile = [tile._replace(codec_name=_DECODER, args=(*tile.args, start)) for tile in tiles]
