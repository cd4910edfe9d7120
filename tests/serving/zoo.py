"""A zoo of image files, good, odd and bad, made on the spot: the fixture `zoo` of `tests/conftest.py`."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 30
_ORIENTATION = 0x0112


class Case(NamedTuple):
    """One file of the zoo.

    `code` is the `ImageError.code` that it must end with, or None for an image that can be read; `size` is then
    the (width, height) that a person sees.
    """

    path: Path
    code: str | None
    size: tuple[int, int] | None


def draw_image(mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Red left, blue right, bright top: every flip and turn shows."""
    y, x = np.mgrid[: size[1], : size[0]]
    rgb = np.stack([255 - x * 255 / size[0], 200 - y * 200 / size[1], x * 255 / size[0]], axis=-1)
    return Image.fromarray(rgb.astype("uint8")).convert(mode)


def encoded(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (draw_image() if image is None else image).save(file, format, **options)
    return file.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif


def png(width: int, height: int, depth: int, colour: int, data: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png() -> bytes:
    """16 bits for each of red, green and blue, which Pillow reads and does not write."""
    rows = np.asarray(draw_image()).astype(">u2") * 257
    return png(WIDTH, HEIGHT, 16, 2, b"".join(b"\0" + row.tobytes() for row in rows))


def frames(mode: str = "RGB") -> dict[str, object]:
    return {"save_all": True, "append_images": [draw_image(mode).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]}


def good() -> dict[str, bytes]:
    """Readable files, all of them `draw_image()` as seen, or turned."""
    alpha = draw_image("RGBA")
    alpha.putalpha(draw_image("L"))
    palette = draw_image().quantize(16)
    deep = Image.fromarray(np.asarray(draw_image("L")).astype("uint16") * 257)
    files = {
        "plain.jpg": encoded("JPEG"),
        "progressive.jpg": encoded("JPEG", progressive=True),
        "grey.jpg": encoded("JPEG", draw_image("L")),
        "cmyk.jpg": encoded("JPEG", draw_image("CMYK")),
        "multi picture.jpg": encoded("MPO", **frames()),
        "trailing garbage.jpg": encoded("JPEG") + b"garbage" * 99,
        "exif malformed.jpg": encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"),
        "exif orientation 99.jpg": encoded("JPEG", exif=oriented(99)),
        "exif 6.png": encoded("PNG", exif=oriented(6)),
        "exif 6.webp": encoded("WEBP", exif=oriented(6), lossless=True),
        "exif 6.tif": encoded("TIFF", tiffinfo={_ORIENTATION: 6}),
        "grey 16 bit.png": encoded("PNG", deep),
        "grey 16 bit.pgm": encoded("PPM", deep),
        "grey 16 bit big endian.tif": encoded("TIFF", Image.fromarray(np.asarray(deep).astype(">u2"))),
        "rgb 16 bit.png": deep_png(),
        "32 bit.tif": encoded("TIFF", Image.fromarray(np.asarray(deep).astype("int32"))),
        "palette.png": encoded("PNG", palette),
        "palette transparent index.png": encoded("PNG", palette, transparency=3),
        "palette transparent bytes.png": encoded("PNG", palette, transparency=bytes(range(0, 256, 16))),
        "palette transparent.gif": encoded("GIF", palette, transparency=3),
        "alpha.png": encoded("PNG", alpha),
        "grey alpha.png": encoded("PNG", alpha.convert("LA")),
        "colour key.png": encoded("PNG", transparency=(1, 2, 3)),
        "two colours.png": encoded("PNG", draw_image("1")),
        "cmyk.tif": encoded("TIFF", draw_image("CMYK")),
        "lab.tif": encoded("TIFF", draw_image("LAB")),
        "animated.gif": encoded("GIF", draw_image("P"), **frames("P")),
        "animated.png": encoded("PNG", **frames()),
        "animated.webp": encoded("WEBP", **frames(), lossless=True),
        "two pages.tif": encoded("TIFF", **frames()),
        "deflated.tif": encoded("TIFF", compression="tiff_adobe_deflate"),
        "windows.bmp": encoded("BMP"),
        "lossy.webp": encoded("WEBP"),
        "portable.ppm": encoded("PPM"),
        "really a png.jpg": encoded("PNG"),
        "really a gif.JPEG": encoded("GIF"),
        "really a jpeg.png": encoded("JPEG"),
    }
    Image.init()
    if "JPEG2000" in Image.SAVE:
        files["jpeg 2000.jp2"] = encoded("JPEG2000")
    if "AVIF" in Image.SAVE:
        files["alliance.avif"] = encoded("AVIF")
    return files | {f"exif {n}.jpg": encoded("JPEG", exif=oriented(n)) for n in range(1, 9)}


ODD_NAMES = (
    "UPPER.JPG",
    "with space .jpg",
    " leading space.jpg",
    "tab\tin it.jpg",
    "new\nline.jpg",
    "carriage\rreturn.jpg",
    "comma, \"quotes\" and 'more'.jpg",
    "=1+1.jpg",
    "-dash.jpg",
    "100%20.jpg",
    "[glob]*?.jpg",
    ".hidden.jpg",
    "two.dots..jpg",
    "café 猫 🐱.jpg",
    "cafe\u0301 decomposed.jpg",
    "right‏to left ‮.jpg",
    os.fsdecode(b"not \xff utf-8.jpg"),
    "long " + "n" * 240 + ".jpg",
)


def bad() -> dict[str, tuple[bytes, str]]:
    """Files that hold no readable image, with the code of the error."""
    whole = {name: encoded(name) for name in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")}
    large = {"JPEG": encoded("JPEG", draw_image(size=(200, 150)))}  # in a small one, two thirds are header
    cut = {f"cut {name}.jpg": (data[: len(data) * 2 // 3], "truncated") for name, data in (whole | large).items()}
    header = bytearray(whole["PNG"])
    header[18] ^= 0xFF
    broken_data = png(WIDTH, HEIGHT, 8, 2, b"")[:-12] + chunk(b"IDAT", b"no zlib stream") + chunk(b"IEND", b"")
    zipped = chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(80 << 20), 1))
    return cut | {
        "empty.jpg": (b"", "empty"),
        "zeros.jpg": (bytes(2000), "not_an_image"),
        "noise.jpg": (np.random.default_rng(0).bytes(2000), "not_an_image"),
        "text.jpg": (b"not an image\n", "not_an_image"),
        "page.jpg": (b"<!doctype html><title>404 Not Found</title>", "not_an_image"),
        "vector.jpg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_image"),
        "document.jpg": (b"%PDF-1.7\n", "not_an_image"),
        "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
        "two bytes.jpg": (b"\xff\xd8", "truncated"),
        "header only.jpg": (whole["JPEG"][:24], "truncated"),
        "header only.png": (whole["PNG"][:20], "truncated"),
        "header only.gif": (whole["GIF"][:8], "truncated"),
        "broken header.png": (bytes(header), "corrupt"),
        "broken data.png": (broken_data, "corrupt"),
        "bomb of pixels.png": (png(60000, 60000, 8, 2, b""), "decompression_bomb"),
        "bomb of pixels.gif": (b"GIF89a\xff\xff\xff\xff\0\0\0" + whole["GIF"][13:], "decompression_bomb"),
        "bomb of text.png": (png(1, 1, 8, 0, b"\0\0", zipped), "decompression_bomb"),
        "float.tif": (encoded("TIFF", Image.fromarray(np.ones((4, 4), "float32"))), "unsupported"),
        "telephone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported"),
    }


def _loop(path: Path) -> None:
    path.symlink_to(path)


SPECIAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "directory.jpg": (Path.mkdir, "is_directory"),
    "link to nothing.jpg": (lambda path: path.symlink_to("nothing here"), "broken_link"),
    "link to itself.jpg": (_loop, "unreadable"),
    "pipe.jpg": (os.mkfifo, "not_a_file"),
    "no such file.jpg": (lambda path: None, "not_found"),
    # Reading the first page of a process' memory is an I/O error for everybody, the superuser too.
    "input error.jpg": (lambda path: path.symlink_to("/proc/self/mem"), "unreadable"),
}


def make_zoo(folder: Path) -> list[Case]:
    """Write the zoo into an existing folder; the cases are sorted by path, and one (`not_found`) has no file."""
    contents: dict[str, tuple[bytes, str | None]] = {name: (data, None) for name, data in good().items()}
    contents |= {name: (encoded("JPEG"), None) for name in ODD_NAMES} | bad()
    cases = []
    for name, (data, code) in contents.items():
        (folder / name).write_bytes(data)
        turned = name.startswith("exif ") and name[5] in "5678"
        size = (HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT)
        cases.append(Case(folder / name, code, size if code is None else None))
    for name, (make, special_code) in SPECIAL.items():
        make(folder / name)
        cases.append(Case(folder / name, special_code, None))
    (folder / "link to an image.jpg").symlink_to("plain.jpg")
    cases.append(Case(folder / "link to an image.jpg", None, (WIDTH, HEIGHT)))
    return sorted(cases)
