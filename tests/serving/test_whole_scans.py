"""JPEG files that end as they should, and hold less than they say."""

import io
import re

import numpy as np
import pytest
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import load_image
from PIL import Image

END = b"\xff\xd9"
SCAN = b"\xff\xda"
KINDS = {
    "baseline": {},
    "optimised": {"optimize": True, "quality": 40},
    "full chroma": {"subsampling": 0},
    "restarts by row": {"restart_marker_rows": 1},
    "restarts by block": {"restart_marker_blocks": 1},
    "progressive": {"progressive": True},
    "progressive, fine": {"progressive": True, "quality": 98},
    "progressive, restarts": {"progressive": True, "restart_marker_blocks": 7},
}


def noise(mode="RGB", size=(200, 150), seed=5):
    rough = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def three_scans(size=(64, 48)):
    """A baseline image with a scan for each component, which Pillow does not write."""
    parts = [encoded(noise("L", size, seed), quality=70) for seed in range(3)]
    frame = parts[0].index(b"\xff\xc0")
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    header = parts[0][:frame] + b"\xff\xc0\0\x11" + parts[0][frame + 4 : frame + 9] + b"\3" + components
    tables = parts[0][frame + 13 : parts[0].index(SCAN)]
    scans = [part[part.index(SCAN) + 10 : -2] for part in parts]
    return header + tables + b"".join(
        SCAN + bytes([0, 8, 1, number, 0, 0, 63, 0]) + data for number, data in zip((1, 2, 3), scans, strict=True)
    ) + END  # fmt: skip


def cuts(data):
    """The data cut within its scans at every tenth, each with the marker that ends an image."""
    for tenth in range(1, 10):
        end = len(data) * tenth // 10
        if end > data.index(SCAN) + 40:
            yield data[:end].removesuffix(b"\xff") + END


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_cut_at_any_tenth_is_truncated_though_it_ends_as_it_should(kind, mode):
    for cut in cuts(encoded(noise(mode), **KINDS[kind])):
        with pytest.raises(ImageError) as caught:
            load_image(cut, (8, 8))
        assert caught.value.code == "truncated"


def test_a_scan_for_each_component_is_looked_at():
    data = three_scans()
    assert np.array_equal(load_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    for cut in cuts(data):
        with pytest.raises(ImageError, match="ends before its image data does"):
            load_image(cut)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_jpeg_is_read_as_pillow_reads_it_whatever_follows(kind, mode):
    thumbnail = Image.Exif()
    thumbnail[0x010E] = "an end in the header: " + END.decode("latin-1")
    data = encoded(noise(mode), **KINDS[kind], exif=thumbnail, comment=b"and here: " + END)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    for more in (b"", bytes(9), b"\xff", data, data[: len(data) // 2] + END):
        assert np.array_equal(load_image(data + more), expected)
    assert np.array_equal(load_image(data[:-2] + b"\xff\xff\xff" + END), expected)  # fill bytes


@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_what_follows_a_cut_image_does_not_hide_it(kind):
    data = encoded(noise(), **KINDS[kind])
    for more in (bytes(100), data, bytes(200_000) + END):
        with pytest.raises(ImageError, match="ends before its image data does"):
            load_image(data[: len(data) * 3 // 4] + END + more)


@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_it_does_not_matter_where_the_file_is_divided_as_it_is_read(kind):
    """Pillow reads 65,536 bytes at a time, and the end of an image may fall between two of them."""
    image = noise()
    without = encoded(image, **KINDS[kind])
    cut = without[: len(without) * 3 // 4].removesuffix(b"\xff") + END
    for data, whole in ((without, True), (cut, False)):
        for size in range(65_532, 65_542):
            comment = size - len(data) - 4
            longer = data[:2] + b"\xff\xfe" + (40_000).to_bytes(2) + bytes(39_998)
            longer += b"\xff\xfe" + (comment - 40_000).to_bytes(2) + bytes(comment - 40_002) + data[2:]
            if whole:
                assert np.array_equal(load_image(longer), np.asarray(Image.open(io.BytesIO(data))))
            else:
                with pytest.raises(ImageError, match="ends before its image data does"):
                    load_image(longer)


def test_a_decoder_that_shrinks_notices_too():
    data = encoded(noise(size=(1600, 1200)))
    assert load_image(data, (100, 100), draft=True).shape == (100, 100, 3)
    for cut in cuts(data):
        with pytest.raises(ImageError, match="ends before its image data does"):
            load_image(cut, (100, 100), draft=True)


def test_the_first_of_several_images_in_a_file_is_looked_at():
    file = io.BytesIO()
    noise().save(file, "MPO", save_all=True, append_images=[noise(seed=4)])
    data = file.getvalue()
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.array_equal(load_image(data), np.asarray(Image.open(io.BytesIO(data))))
    end = data.index(END)
    with pytest.raises(ImageError, match="ends before its image data does"):
        load_image(data[: end * 3 // 4] + END + data[end * 3 // 4 + 2 :])


def test_a_progressive_image_that_ends_between_two_scans_is_coarse_and_whole():
    data = encoded(noise(), progressive=True)
    for start in [found.start() for found in re.finditer(SCAN, data)][1:]:
        tables = data.rfind(b"\xff\xc4", 0, start)
        end = tables if tables + 2 + int.from_bytes(data[tables + 2 : tables + 4]) == start else start
        assert load_image(data[:end] + END).shape == (150, 200, 3)
