"""JPEG files: what their header says, what their scans cost, and whether they hold all of their pixels.

Where the data of a scan end too soon, libjpeg leaves the rest of the image grey and warns nobody. Without the marker
that ends the image it waits for more, and how it waits tells: within a scan for all the bytes that it reads ahead, so
that one more is left lying; behind a scan for a marker, and every other byte is skipped.
"""

import re
from typing import IO, Any, Literal, NamedTuple, Protocol, cast

from PIL import Image

from kerasxfer_serving.errors import ImageError

_ORIENTATION = 0x0112
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})  # kinds of frames: baseline, extended and progressive
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_PROGRESSIVE = 0xC2
_SCAN = b"\xff\xda"
_SCAN_PIXELS = 8_000_000_000  # a core's work for about five seconds
_DECODER = "jpeg_of_whole_scans"
_END = re.compile(b"\xff\xd9")  # three times as fast as `bytes.find`
_READ_AHEAD = b"\xff\0" * 8  # ones, which no Huffman code begins with: hardly a block ends in them
_BYTE = b"\0"
_RESTARTS = tuple(bytes([0xFF, marker, 0]) for marker in range(0xD0, 0xD8))
_NO_SEGMENT = frozenset({0, *range(0xD0, 0xD8)})


class Frame(NamedTuple):
    """A JPEG image of the kind that every decoder reads alike.

    Attributes:
        width: In pixels, as stored.
        height: In pixels, as stored.
        mode: `"L"` or `"RGB"`, as Pillow calls it.
        orientation: The EXIF orientation, 1 to 8; 1 where there is none.
    """

    width: int
    height: int
    mode: str
    orientation: int


class _File(Protocol):
    def seek(self, offset: int, /) -> int: ...
    def tell(self) -> int: ...
    def read(self, size: int = -1, /) -> bytes: ...


def _first_scan(file: _File) -> tuple[int, int]:
    """Find the first scan of a JPEG file.

    Args:
        file: Binary file.

    Returns:
        The kind of its frame, 0 where none is found, and where the scan begins.
    """
    position, frame = 2, 0
    while True:
        file.seek(position)
        start = file.read(4)
        if len(start) < 4 or start[0] != 0xFF:
            return 0, position
        marker = start[1]
        if marker == _START_OF_SCAN:
            return frame, position
        if marker == 0xFF or marker in _NO_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _HUFFMAN or marker in _OTHER_FRAMES:
            frame = marker
        position += 2 + int.from_bytes(start[2:])


def read_frame(data: bytes) -> Frame | None:
    """Read the header of a JPEG file.

    Args:
        data: The whole file.

    Returns:
        The `Frame`; `None` for whatever decoders differ about or refuse: CMYK, RGB stored as such, lossless and
        arithmetic coding, more than 8 bits, several images in one file, files that end early.
    """
    if not data.startswith(b"\xff\xd8") or b"\xff\xd9" not in data[-64:]:
        return None
    position, orientation = 2, 1
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        start, end = position + 4, position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker in _HUFFMAN:
            return _frame(data[start:end], orientation)
        if marker in _OTHER_FRAMES or marker == _START_OF_SCAN or _is_special(marker, data, start):
            return None
        if marker == 0xE1 and data.startswith(b"Exif\0\0", start):
            orientation = _read_orientation(data[start + 6 : end])
        position = end
    return None


def _frame(segment: bytes, orientation: int) -> Frame | None:
    if len(segment) < 6:
        return None
    bits, components = segment[0], segment[5]
    height, width = int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5])
    if bits != 8 or components not in (1, 3) or not width * height:
        return None
    return Frame(width, height, "L" if components == 1 else "RGB", orientation)


def _is_special(marker: int, data: bytes, start: int) -> bool:
    """Whether a segment says that the samples are RGB already, or that there are more images in the file."""
    if marker == 0xEE and data.startswith(b"Adobe", start):
        return data[start + 11 : start + 12] == b"\0"
    return marker == 0xE2 and data.startswith(b"MPF\0", start)


def _read_orientation(tiff: bytes) -> int:
    orders: dict[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}
    order = orders.get(tiff[:2])
    if order is None:
        return 1
    first = int.from_bytes(tiff[4:8], order)
    for index in range(int.from_bytes(tiff[first : first + 2], order)):
        entry = tiff[first + 2 + 12 * index : first + 14 + 12 * index]
        if len(entry) < 12:
            break
        if int.from_bytes(entry[:2], order) == _ORIENTATION:
            value = int.from_bytes(entry[8:10], order)
            return value if 1 <= value <= 8 else 1
    return 1


def check_scans(image: Image.Image, file: _File, size: int) -> None:
    """Refuse a JPEG, of which only the header has been read, with too many scans or too few bytes for its pixels.

    Args:
        image: Opened, and not decoded.
        file: What it was opened from.
        size: Bytes of the file.

    Raises:
        ImageError: With the code `"decompression_bomb"` or `"truncated"`.
    """
    pixels = image.width * image.height
    blocks = -(-image.width // 8) * -(-image.height // 8)
    progressive = "progressive" in image.info
    position = file.tell()  # behind the header of the first scan
    if not progressive and size - position > blocks // 4:
        return
    file.seek(0)
    data = file.read()
    if progressive and (scans := data.count(_SCAN)) * pixels > _SCAN_PIXELS:
        raise ImageError("decompression_bomb", f"has {scans:,} scans of {pixels:,} pixels")
    frame, start = _first_scan(file)
    file.seek(position)
    # Huffman's code has at least a bit for the mean of every block of 8 × 8, and in one scan another for its end.
    if frame in _HUFFMAN and 8 * (len(data) - start) < blocks * (1 if frame == _PROGRESSIVE else 2):
        raise ImageError("truncated", f"has {len(data) - start:,} bytes for {blocks:,} blocks of pixels: too few")


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
    frame, start = _first_scan(file)
    if frame in _HUFFMAN:
        tiles = cast(Any, image).tile
        cast(Any, image).tile = [tile._replace(codec_name=_DECODER, args=(*tile.args, start)) for tile in tiles]
