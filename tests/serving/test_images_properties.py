"""Whatever the bytes and the policy, decoding ends in pixels of the right shape or in an `ImageError`."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io.decoding import ERROR_CODES
from kerasxfer_serving.images import ImagePolicy
from PIL import Image

policies = st.builds(
    ImagePolicy,
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]),
    resize=st.sampled_from(["stretch", "crop", "pad"]),
    exif=st.sampled_from(["apply", "ignore"]),
    draft=st.booleans(),
)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
MODES = (
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "La",
    "CMYK",
    "YCbCr",
    "HSV",
    "LAB",
    "I",
    "I;16",
    "I;16B",
    "RGBX",
)


@pytest.fixture(scope="module")
def files(zoo_module):
    return sorted(zoo_module.good().items())


def ends_well(policy, data, size):
    try:
        pixels = policy.load(data, size)
    except ImageError as error:
        return error.code in ERROR_CODES and bool(str(error))
    return pixels.shape == (*size, 3) and pixels.dtype == np.uint8


@settings(max_examples=300)
@given(st.data(), policies, sizes)
def test_damaged_files(files, data, policy, size):
    content = bytearray(data.draw(st.sampled_from(files))[1])
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    assert ends_well(policy, bytes(content), size)


@settings(max_examples=100)
@given(st.binary(max_size=64), policies, sizes, st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0"]))
def test_any_bytes(data, policy, size, start):
    assert ends_well(policy, start + data, size)


@settings(max_examples=200)
@given(st.sampled_from(MODES), sizes, sizes, policies, st.integers(1, 8))
def test_every_mode_shape_policy_and_orientation(mode, stored, size, policy, orientation):
    image = Image.new(mode, stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()
    assert policy.load(image, size).shape == (*size, 3)
    swapped = policy.exif == "apply" and orientation >= 5
    width, height = stored[::-1] if swapped else stored
    assert policy.load(image).shape == (height, width, 3)
    decoded = policy.decode(image, size)
    assert (decoded.width, decoded.height) == (width, height)


@settings(max_examples=60)
@given(st.integers(0, 255), sizes, sizes, policies)
@example(200, (2, 27), (1, 21), ImagePolicy(resize="crop"))  # 27 / 21 * 21 > 27
@example(200, (27, 2), (21, 1), ImagePolicy(resize="crop"))
def test_one_colour_stays_that_colour(value, stored, size, policy):
    pixels = policy.load(np.full((*stored, 3), value, "uint8"), size)
    filled = pixels[pixels.any(axis=2)] if policy.resize == "pad" else pixels
    assert np.all(filled == value)
