"""What the header of a JPEG file says, read without decoding it."""

from typing import Literal, NamedTuple, Protocol

_ORIENTATION = 0x0112
HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})  # kinds of frames: baseline, extended and progressive
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


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
    def read(self, size: int, /) -> bytes: ...


def first_scan(file: _File) -> tuple[int, int]:
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
        if marker in HUFFMAN or marker in _OTHER_FRAMES:
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
        if marker in HUFFMAN:
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
