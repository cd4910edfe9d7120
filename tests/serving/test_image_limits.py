"""What decoding one image may cost."""

import io
import struct
import time

import numpy as np
import pytest
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io import decoding
from kerasxfer_serving.image_io.decoding import default_max_pixels
from kerasxfer_serving.image_io.formats import HEAD, format_of
from kerasxfer_serving.images import ImagePolicy, load_image
from kerasxfer_serving.runtime.resources import available_memory
from PIL import Image, PngImagePlugin


def encoded(format, image, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def code(source, **options):
    with pytest.raises(ImageError) as caught:
        load_image(source, (8, 8), **options)
    return caught.value.code


def claiming(size, data):
    """A JPEG whose header says another size."""
    at = next(data.index(bytes([0xFF, kind])) for kind in (0xC0, 0xC2) if bytes([0xFF, kind]) in data)
    return data[: at + 5] + struct.pack(">HH", *size) + data[at + 9 :]


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG", "TIFF", "GIF", "BMP", "PPM"])
def test_more_pixels_than_allowed_are_refused_by_name(format):
    data = encoded(format, Image.new("RGB", (300, 200)))
    assert load_image(data, max_pixels=60_000).shape == (200, 300, 3)
    with pytest.raises(ImageError, match="60,000 pixels; at most 59,999 are decoded, set by `max_pixels`") as caught:
        load_image(data, max_pixels=59_999)
    assert caught.value.code == "decompression_bomb"


def test_the_default_fits_the_machine(monkeypatch):
    for memory, cores, expected in [(1 << 50, 2, 120_000_000), (32 << 30, 16, 67_108_864), (1 << 30, 8, 50_000_000)]:
        monkeypatch.setattr(decoding, "available_memory", lambda memory=memory: memory)
        monkeypatch.setattr(decoding, "available_cores", lambda cores=cores: cores)
        assert default_max_pixels.__wrapped__() == expected


def test_the_memory_of_a_container_counts(tmp_path):
    whole = available_memory(tmp_path)
    assert whole > 1 << 20
    (tmp_path / "memory.max").write_text("1048576\n")
    assert available_memory(tmp_path) == 1 << 20
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) == whole


def test_a_policy_says_so_and_is_silent_where_the_machine_decides():
    assert ImagePolicy.from_dict(ImagePolicy(max_pixels=9).to_dict()) == ImagePolicy(max_pixels=9)
    assert "max_pixels" not in ImagePolicy().to_dict()
    for bad in (0, 1.5, "many"):
        with pytest.raises(ValueError, match="max_pixels"):
            ImagePolicy(max_pixels=bad)


def test_a_tile_larger_than_its_image_is_refused():
    data = encoded("TIFF", Image.new("RGB", (64, 64)), compression="tiff_adobe_deflate")
    assert load_image(data, (8, 8)).shape == (8, 8, 3)
    for was, tag in ((278, 322), (284, 323)):  # rows of a strip, planes: width and height of a tile
        at = next(data.index(start) for kind in (3, 4) if (start := struct.pack("<HH", was, kind)) in data)
        data = data[:at] + struct.pack("<HHII", tag, 4, 1, 40_000) + data[at + 12 :]
    with pytest.raises(ImageError, match="tiles of 1,600,000,000 pixels"):
        load_image(data)


@pytest.mark.parametrize(("format", "suffix"), [("PNG", "png"), ("JPEG", "jpg"), ("PPM", "ppm")])
def test_a_sparse_file_of_gigabytes_is_not_read(tmp_path, format, suffix):
    path = tmp_path / f"sparse.{suffix}"
    path.write_bytes(encoded(format, Image.new("RGB", (8, 8)))[:-20])
    with path.open("r+b") as file:
        file.truncate(3 << 30)
    with pytest.raises(ImageError, match=r"has 3,221,225,472 bytes; at most .* are read"):
        load_image(path)


def test_a_header_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(decoding, "_OPEN_SECONDS", 0.05)
    before = time.thread_time()
    assert code(b"\xff\xd8" + b"\xff\x00" * (8 << 20)) == "decompression_bomb"
    assert time.thread_time() - before < 5


def test_pixels_without_end_are_given_up(monkeypatch):
    monkeypatch.setattr(decoding, "_DECODE_SECONDS", 0.05)
    assert code(b"P3 2000 2000 255\n" + b"1 2 3 " * 4_000_000) == "decompression_bomb"


def test_scans_without_end_are_refused():
    data = encoded("JPEG", Image.new("RGB", (2000, 2000)), progressive=True)
    assert load_image(data, (8, 8)).shape == (8, 8, 3)
    start = data.rindex(b"\xff\xda")
    assert code(data[:start] + data[start:-2] * 3000 + data[-2:]) == "decompression_bomb"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(600, 600), (9000, 9000)])
def test_a_jpeg_that_ends_at_once_is_truncated(size, progressive):
    data = claiming(size, encoded("JPEG", Image.new("RGB", (8, 8)), progressive=progressive))
    assert code(data) == "truncated"


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"optimize": True, "quality": 1}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_an_even_jpeg_has_as_few_bytes_as_there_can_be_and_is_read(mode, options):
    for size in (1, 8, 17, 800, 3000):
        image = Image.new(mode, (size, size))
        assert load_image(encoded("JPEG", image, **options)).shape == (size, size, 3)


def test_a_png_with_megabytes_of_metadata_is_read():
    notes = PngImagePlugin.PngInfo()
    notes.add_text("workflow", "x" * (5 << 20), zip=True)
    notes.add_itxt("prompt", "y" * (5 << 20), zip=True)
    data = encoded("PNG", Image.new("RGB", (4, 4), (1, 2, 3)), pnginfo=notes)
    np.testing.assert_array_equal(load_image(data), np.full((4, 4, 3), (1, 2, 3)))


def test_avif_by_any_of_its_brands():
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow writes no AVIF")
    data = encoded("AVIF", Image.new("RGB", (16, 16), (200, 10, 10)))
    assert data[4:12] == b"ftypavif"
    expected = load_image(data)
    other = data.replace(b"ftypavif", b"ftypmif1", 1)
    assert b"avif" in other[16:32]
    np.testing.assert_array_equal(load_image(other), expected)


@pytest.mark.parametrize("format", ["TGA", "PCX", "QOI", "DDS", "SGI", "PPM", "BMP", "ICO", "JPEG2000"])
def test_formats_are_known_by_their_content(format):
    Image.init()
    if format not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {format}")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    data = encoded(format, image, **({"sizes": [(32, 32)]} if format == "ICO" else {}))
    decoded = ImagePolicy().decode(data)
    assert decoded.format == format
    np.testing.assert_allclose(decoded.pixels, np.asarray(image), atol=0 if format != "JPEG2000" else 4)


def test_noise_is_no_image():
    rng = np.random.default_rng(0)
    assert sum(format_of(rng.bytes(size)) is not None for size in [HEAD] * 20_000) <= 20
