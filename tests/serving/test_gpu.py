"""On a CUDA device: `pytest -m gpu tests/serving/test_gpu.py`."""

import io

import numpy as np
import pytest
from kerasxfer_serving.errors import DeviceError, ImageError
from kerasxfer_serving.image_io.jpeg import read_frame
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.inputs.input import given_input
from kerasxfer_serving.predictor import Predictor
from kerasxfer_serving.runtime.resources import cuda_devices
from PIL import Image

gpu = [pytest.mark.gpu, pytest.mark.skipif(not cuda_devices(), reason="no CUDA device")]


def photograph(width, height, seed=0, **options):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    pixels = np.asarray(coarse) + rng.normal(0, 6, (height, width, 3))
    return encoded(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), **options)


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def pillow(policy, size):
    def decode(item):
        return ImageError("unsupported", item.path)

    return decode


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_the_header_of_a_jpeg_file_is_read_as_pillow_reads_it(orientation):
    options = {} if orientation is None else {"exif": exif(orientation)}
    for data in (photograph(31, 20, **options), photograph(31, 20, progressive=True, **options)):
        assert read_frame(data) == (31, 20, "RGB", orientation or 1)


def test_what_decoders_differ_about_is_left_to_pillow():
    data = photograph(31, 20)
    assert read_frame(encoded(Image.new("L", (5, 4)))) == (5, 4, "L", 1)
    assert read_frame(encoded(Image.new("CMYK", (5, 4)))) is None
    assert read_frame(data[:-200]) is None
    assert read_frame(data[2:]) is None
    assert read_frame(b"") is None
    rgb = data[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" + data[2:]
    assert read_frame(rgb) is None
    for end in range(0, 200):
        assert read_frame(data[:end] + b"\xff\xd9") is None or end > 150


def test_the_gpu_decoder_is_refused_without_a_gpu(model):
    with pytest.raises(DeviceError, match="needs the model on a GPU"):
        Predictor(model, device="cpu", decode="gpu")


def test_draft_and_the_gpu_decoder_exclude_each_other():
    with pytest.raises(ValueError, match="`draft` is for Pillow"):
        ImagePolicy(draft=True, decoder="gpu")


def test_a_policy_names_its_decoder_only_where_it_is_not_pillow():
    assert "decoder" not in ImagePolicy().to_dict()
    policy = ImagePolicy(decoder="gpu")
    assert ImagePolicy.from_dict(policy.to_dict()) == policy


class TestOnTheCard:
    pytestmark = gpu

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "box", "hamming"])
    @pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
    def test_pixels_are_close_to_those_of_pillow(self, interpolation, resize):
        from kerasxfer_serving.image_io.gpu import GpuDecoder

        size = (56, 64)
        policy = ImagePolicy(interpolation, resize, decoder="gpu")
        decoder = GpuDecoder(size, policy)
        shapes = [(500, 375), (375, 500), (64, 56), (20, 30), (301, 77), (1200, 900)]
        datas = [photograph(*shape, seed=number) for number, shape in enumerate(shapes)]
        datas += [photograph(333, 222, exif=exif(orientation)) for orientation in range(1, 9)]
        datas += [photograph(200, 100, progressive=True), encoded(Image.open(io.BytesIO(datas[0])).convert("L"))]
        items = [given_input(str(number), data) for number, data in enumerate(datas)]
        images = decoder.decode(items, pillow(policy, size))
        left = [number for number, image in enumerate(images) if isinstance(image, ImageError)]
        assert left == ([*range(7, 14)] if resize == "pad" else [])
        for data, image in zip(datas, images, strict=True):
            if isinstance(image, ImageError):
                continue
            expected = policy.decode(data, size)
            apart = np.abs(image.pixels.astype(int) - expected.pixels)
            assert apart.mean() < 1
            assert apart.max() < 24
            assert (image.width, image.height, image.mode, image.format) == (
                expected.width, expected.height, expected.mode, expected.format,
            )  # fmt: skip

    def test_a_predictor_answers_as_with_pillow(self, model, zoo):
        paths = [case.path for case in zoo]
        with Predictor(model, device="cpu") as cpu, Predictor(model, device="cuda", decode="gpu") as card:
            expected, answered = cpu.predict(paths), card.predict(paths)
            assert answered.status == expected.status
            assert answered.sizes == expected.sizes
            good = expected.ok
            np.testing.assert_allclose(answered.probabilities[good], expected.probabilities[good], atol=0.02)
            decoding = card.describe_session()["decoding"]
            assert 0 < decoding["decoded_by_pillow"] < len(paths)

    def test_nodes_run_on_the_card(self, model):
        with Predictor(model, device="cuda") as predictor:
            placement = predictor.describe_session()["placement"]
        assert placement.get("CUDAExecutionProvider", 0) > placement.get("CPUExecutionProvider", 0)
