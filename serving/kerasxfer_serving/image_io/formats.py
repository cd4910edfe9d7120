"""The image formats that are read: by what a file begins with, and by the suffixes that folders are searched for.

Pillow can do more. What is left out runs other programs (EPS, WMF), only stands for a reader that is not there (BUFR,
GRIB, HDF5), or holds no photographs (fonts, animations, textures of single games).
"""

from functools import cache
from typing import NamedTuple

from PIL import Image

from kerasxfer_serving.errors import ImageError

HEAD = 256
"""Bytes of a file that `format_of` wants to see."""


class _Format(NamedTuple):
    """Pillow's name of a format, its suffixes, and (offset, bytes) that a file of it begins with."""

    name: str
    suffixes: str
    signatures: tuple[tuple[int, bytes], ...] = ()


# In this order: what has a weak signature comes last.
_FORMATS = (
    _Format("JPEG", ".jpg .jpeg .jpe .jfif .mpo", ((0, b"\xff\xd8"),)),
    _Format("PNG", ".png .apng", ((0, b"\x89PNG\r\n\x1a\n"),)),
    _Format("GIF", ".gif", ((0, b"GIF8"),)),
    _Format("WEBP", ".webp", ((8, b"WEBP"),)),
    _Format("BMP", ".bmp .dib", ((0, b"BM"),)),
    _Format("TIFF", ".tif .tiff", tuple((0, magic) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))),
    _Format("AVIF", ".avif .avifs"),
    _Format("HEIF", ".heic .heif .hif .heics .heifs"),
    _Format("JPEG2000", ".jp2 .j2k .jpc .jpf .jpx .j2c", ((4, b"jP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51"))),
    _Format("ICO", ".ico", ((0, b"\0\0\1\0"),)),
    _Format("CUR", ".cur"),
    _Format("ICNS", ".icns", ((0, b"icns"),)),
    _Format("PSD", ".psd", ((0, b"8BPS"),)),
    _Format("DDS", ".dds", ((0, b"DDS "),)),
    _Format("QOI", ".qoi", ((0, b"qoif"),)),
    _Format("SUN", ".ras", ((0, b"\x59\xa6\x6a\x95"),)),
    _Format("SGI", ".sgi .rgb .rgba .bw", ((0, b"\x01\xda"),)),
    _Format("PPM", ".ppm .pgm .pbm .pnm .pfm", tuple((0, b"P%c" % kind) for kind in b"1234567fF")),
    _Format("PCX", ".pcx"),
    _Format("TGA", ".tga"),
)
_PLUGINS = {"HEIF": "pillow-heif"}
FORMAT_OF_SUFFIX = {suffix: item.name for item in _FORMATS for suffix in item.suffixes.split()}
NAMES = tuple(item.name for item in _FORMATS)

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})


def format_of(head: bytes) -> str | None:
    """Pillow's name of the format of a file that begins with `head`, `HEAD` bytes of it; `None` for any other."""
    for item in _FORMATS:
        if any(head.startswith(magic, offset) for offset, magic in item.signatures):
            return item.name
    if head[4:8] == b"ftyp":
        return _by_brands(head)
    if head[:4] == b"\0\0\2\0" and any(head[4:6]):  # without a number of cursors, these bytes begin a Targa file
        return "CUR"
    if _is_pcx(head):
        return "PCX"
    return "TGA" if _is_tga(head) else None


def missing_plugin(name: str) -> str | None:
    """The package that is to be installed before a format can be read, or `None` where it can."""
    for load in (Image.preinit, Image.init):  # the usual formats; all formats, which takes ten times as long
        if name not in Image.OPEN:
            load()
    if name == "HEIF" and name not in Image.OPEN:
        _register_heif()
    return None if name in Image.OPEN else _PLUGINS.get(name, "a Pillow that has it")


def refuse_unreadable(name: str) -> None:
    """Refuse a format that cannot be read here.

    Raises:
        ImageError: With the code `"unsupported"` and the package that helps.
    """
    if package := missing_plugin(name):
        raise ImageError("unsupported", f"this Pillow cannot read {name}: `pip install {package}`")


def _by_brands(head: bytes) -> str | None:
    """AVIF or HEIF, by the major and the compatible brands of an ISO media file: `mif1` alone is said by both."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None


def _is_pcx(head: bytes) -> bool:
    return (
        len(head) >= 128 and head[0] == 10 and head[1] in (0, 2, 3, 4, 5) and head[2] == 1 and head[3] in (1, 2, 4, 8)
    )


def _is_tga(head: bytes) -> bool:
    """Targa files begin with no signature, but few other bytes make a header that agrees with itself."""
    if len(head) < 18:
        return False
    has_map, kind, map_depth, width, height, depth = head[1], head[2], head[7], head[12:14], head[14:16], head[16]
    mapped = kind in (1, 9)
    return (
        kind in (1, 2, 3, 9, 10, 11)
        and has_map == mapped
        and (map_depth in (16, 24, 32) if mapped else not any(head[3:8]))
        and any(width)
        and any(height)
        and depth in ((8,) if kind not in (2, 10) else (16, 24, 32))
    )


@cache
def _register_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()
