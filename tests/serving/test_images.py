import io
import os
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io.resizing import draft
from kerasxfer_serving.images import ImagePolicy, load_image
from PIL import Image, ImageFile, ImageOps

BILINEAR = Image.Resampling.BILINEAR


DEFAULT = ImagePolicy()


def outcome(path, policy=DEFAULT, size=(12, 16)):
    """Code of the error and size as seen."""
    try:
        image = policy.decode(path, size)
    except ImageError as error:
        return error.code, None
    assert image.pixels.shape == (*size, 3)
    assert image.pixels.dtype == np.uint8
    return None, (image.width, image.height)


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def distance(a, b):
    return np.abs(np.asarray(a, "int32") - np.asarray(b, "int32")).max()


@pytest.fixture
def photo():
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (9, 14, 3), "uint8")).resize((281, 183), BILINEAR)


class TestZoo:
    def test_every_file_ends_as_it_should(self, zoo):
        assert len(zoo) >= 80
        wrong = {
            case.path.name: (outcome(case.path), case) for case in zoo if outcome(case.path) != (case.code, case.size)
        }
        assert wrong == {}

    @pytest.mark.parametrize("policy", [ImagePolicy(draft=True), ImagePolicy(resize="crop"), ImagePolicy(resize="pad")])
    def test_every_file_under_other_policies(self, zoo, policy):
        assert [outcome(case.path, policy) for case in zoo] == [(case.code, case.size) for case in zoo]

    def test_messages_name_the_file_on_one_line(self, zoo):
        for case in zoo:
            if case.code:
                with pytest.raises(ImageError) as caught:
                    load_image(case.path)
                assert repr(str(case.path)) in str(caught.value)
                assert len(str(caught.value).splitlines()) == 1

    def test_colours_are_those_of_the_image(self, zoo, zoo_module):
        upright = np.asarray(zoo_module.draw_image())
        # name of a file: how far its pixels may be from the image's
        lossless = {
            "grey",
            "cmyk",
            "lab",
            "two",
            "palette",
            "32",
            "jpeg",
            "alliance",
            "lossy",
            "animated.gif",
            "really a gif",
        }
        for case in zoo:
            if case.code is None and not any(case.path.name.startswith(name) for name in lossless):
                assert distance(_turned_back(case, load_image(case.path)), upright) <= 24, case.path.name

    @pytest.mark.parametrize(
        "name", ["grey 16 bit.png", "grey 16 bit.pgm", "grey 16 bit big endian.tif", "32 bit.tif", "grey alpha.png"]
    )
    def test_deep_samples_keep_their_high_byte(self, zoo, zoo_module, name):
        path = next(case.path for case in zoo if case.path.name == name)
        np.testing.assert_array_equal(load_image(path)[:, :, 1], np.asarray(zoo_module.draw_image("L")))

    def test_three_deep_samples_keep_their_high_byte(self, zoo, zoo_module):
        path = next(case.path for case in zoo if case.path.name == "rgb 16 bit.png")
        np.testing.assert_array_equal(load_image(path), np.asarray(zoo_module.draw_image()))

    def test_animations_give_their_first_frame_and_are_flagged(self, zoo, zoo_module):
        flagged = {case.path.name for case in zoo if case.code is None and ImagePolicy().decode(case.path).animated}
        assert flagged == {"animated.gif", "animated.png", "animated.webp", "two pages.tif", "multi picture.jpg"}
        path = next(case.path for case in zoo if case.path.name == "animated.png")
        np.testing.assert_array_equal(load_image(path), np.asarray(zoo_module.draw_image()))

    def test_says_nothing_and_leaves_pillow_alone(self, zoo, capfd):
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for case in zoo:
                outcome(case.path)
        assert seen == []
        assert capfd.readouterr() == ("", "")
        assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)

    def test_many_threads_get_what_one_gets(self, zoo):
        paths = [case.path for case in zoo if case.code is None]
        alone = [load_image(path, (20, 20)) for path in paths]
        with ThreadPoolExecutor(8) as pool:
            for _ in range(3):
                np.testing.assert_array_equal(list(pool.map(lambda path: load_image(path, (20, 20)), paths)), alone)

    def test_open_files_are_closed(self, zoo):
        before = open_files()
        for case in zoo:
            outcome(case.path)
        assert open_files() == before


def _turned_back(case, pixels):
    """The stored image, from the image as seen."""
    name = case.path.name
    orientation = int(name[5]) if name.startswith("exif ") and name[5].isdigit() else 1
    image = Image.fromarray(pixels)
    image.info["exif"] = _exif({6: 8, 8: 6}.get(orientation, orientation)).tobytes()
    return ImageOps.exif_transpose(image)


class TestSources:
    def test_all_kinds_of_source_agree(self, tmp_path, photo):
        path = tmp_path / "photo.png"
        photo.save(path)
        data = path.read_bytes()
        expected = load_image(path, (50, 60))
        for source in (str(path), data, bytearray(data), io.BytesIO(data), photo, np.asarray(photo)):
            np.testing.assert_array_equal(load_image(source, (50, 60)), expected)

    def test_file_that_cannot_seek(self, photo):
        read, write = os.pipe()
        buffer = io.BytesIO()
        photo.save(buffer, "PNG")
        thread = threading.Thread(target=lambda: os.fdopen(write, "wb").write(buffer.getvalue()))
        thread.start()
        with os.fdopen(read, "rb") as file:
            np.testing.assert_array_equal(load_image(file), np.asarray(photo))
        thread.join()

    def test_file_is_read_from_its_start_and_left_open(self, photo):
        file = io.BytesIO()
        photo.save(file, "PNG")
        np.testing.assert_array_equal(load_image(file), np.asarray(photo))
        assert not file.closed

    def test_pillow_image_is_left_as_it_was(self, photo):
        photo.info["exif"] = _exif(6).tobytes()
        before = photo.copy()
        assert load_image(photo, (10, 10), draft=True).shape == (10, 10, 3)
        assert photo == before

    @pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
    def test_arrays(self, shape):
        array = np.arange(np.prod(shape), dtype="uint8").reshape(shape)
        expected = array if array.ndim == 3 and shape[2] >= 3 else np.repeat(array.reshape(4, 5, 1), 3, axis=2)
        result = load_image(array)
        np.testing.assert_array_equal(result, expected[:, :, :3])
        assert result.flags.writeable
        assert not np.shares_memory(result, array)

    @pytest.mark.parametrize(
        "array",
        [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), "uint8"), np.zeros((0, 4, 3), "uint8"), np.zeros(3, "uint8")],
        ids=["float", "two channels", "empty", "one axis"],
    )
    def test_other_arrays_are_unsupported(self, array):
        with pytest.raises(ImageError, match="Received: shape") as caught:
            load_image(array)
        assert caught.value.code == "unsupported"

    def test_impossible_name(self):
        assert outcome("with a \0 in it.jpg") == ("not_found", None)

    def test_impossible_type(self):
        with pytest.raises(TypeError, match="Received: source=3"):
            load_image(3)


class TestResizing:
    def test_stretch_is_pillows_resize(self, photo):
        for name in ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"):
            expected = photo.resize((70, 50), Image.Resampling[name.upper()])
            np.testing.assert_array_equal(load_image(photo, (50, 70), interpolation=name), np.asarray(expected))

    def test_crop_takes_the_largest_centred_part(self):
        pixels = np.zeros((4, 12, 3), "uint8")
        pixels[:, 4:8] = 200
        np.testing.assert_array_equal(load_image(pixels, (4, 4), resize="crop"), np.full((4, 4, 3), 200))
        tall = load_image(pixels.transpose(1, 0, 2), (4, 4), resize="crop")
        np.testing.assert_array_equal(tall, np.full((4, 4, 3), 200))

    def test_pad_keeps_all_and_fills_with_black(self):
        padded = load_image(np.full((4, 8, 3), 200, "uint8"), (8, 8), resize="pad")
        np.testing.assert_array_equal(padded[2:6], np.full((4, 8, 3), 200))
        assert not padded[:2].any()
        assert not padded[6:].any()

    def test_extreme_aspect_ratio(self):
        line = np.full((1, 3000, 3), 9, "uint8")
        for resize in ("stretch", "crop", "pad"):
            assert load_image(line, (32, 32), resize=resize).shape == (32, 32, 3)
            assert load_image(line.transpose(1, 0, 2), (32, 32), resize=resize).shape == (32, 32, 3)

    def test_grey_equals_grey_as_colour(self, photo):
        grey = photo.convert("L")
        np.testing.assert_array_equal(load_image(grey, (40, 40)), load_image(grey.convert("RGB"), (40, 40)))

    @pytest.mark.parametrize(
        ("size", "resize", "decoded"),
        [
            ((150, 200), "stretch", (200, 150)),
            ((151, 200), "stretch", (400, 300)),
            ((300, 100), "stretch", (400, 300)),
            ((150, 150), "crop", (200, 150)),
            ((150, 150), "pad", (200, 150)),
            ((1000, 1000), "stretch", (1600, 1200)),
        ],
    )
    def test_draft_decodes_no_fewer_pixels_than_are_wanted(self, photo, size, resize, decoded):
        file = io.BytesIO()
        photo.resize((1600, 1200)).save(file, "JPEG")
        with Image.open(file) as image:
            draft(image, size, resize)
            assert image.size == decoded

    def test_draft_is_close_to_the_full_decode(self, photo, tmp_path):
        large = photo.resize((1600, 1200), BILINEAR)
        for orientation in (1, 6):
            path = tmp_path / f"{orientation}.jpg"
            large.save(path, exif=_exif(orientation))
            for resize in ("stretch", "crop", "pad"):
                full = ImagePolicy(resize=resize).decode(path, (150, 100))
                drafted = ImagePolicy(resize=resize, draft=True).decode(path, (150, 100))
                assert np.abs(full.pixels.astype(int) - drafted.pixels).mean() < 2
                assert (full.width, full.height) == (drafted.width, drafted.height)


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


class TestExif:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
    def test_apply_and_ignore(self, tmp_path, photo, orientation, suffix):
        path = tmp_path / f"photo.{suffix}"
        options = {"tiffinfo": {0x0112: orientation}} if suffix == "tif" else {"exif": _exif(orientation)}
        photo.save(path, lossless=True, **options)
        stored = load_image(path, exif="ignore")
        assert distance(stored, photo) <= (30 if suffix == "jpg" else 0)
        image = Image.fromarray(stored)
        image.info["exif"] = _exif(orientation).tobytes()
        upright = ImageOps.exif_transpose(image)
        np.testing.assert_array_equal(load_image(path), upright)
        for resize in ("stretch", "crop", "pad"):  # turned after resizing: a rounding apart
            expected = load_image(np.asarray(upright), (48, 65), resize=resize)
            assert distance(load_image(path, (48, 65), resize=resize), expected) <= 1


class TestPolicy:
    def test_round_trip(self):
        policy = ImagePolicy("bicubic", "pad", "ignore", True)
        assert ImagePolicy.from_dict(policy.to_dict()) == policy
        assert ImagePolicy.from_dict({}) == ImagePolicy()

    def test_unknown_key(self):
        with pytest.raises(ValueError, match=r"Received: \['gamma'\]"):
            ImagePolicy.from_dict({"gamma": 2})

    @pytest.mark.parametrize("argument", [{"interpolation": "cubic"}, {"resize": 3}, {"exif": True}, {"draft": "no"}])
    def test_invalid_choice(self, argument):
        with pytest.raises(ValueError, match=f"`{next(iter(argument))}` must be"):
            ImagePolicy(**argument)

    @pytest.mark.parametrize("size", [(0, 5), (5,), (1, 2, 3), (-1, 4)])
    def test_invalid_size(self, size):
        with pytest.raises(ValueError, match="`size` must be"):
            load_image(np.zeros((4, 4, 3), "uint8"), size)


def test_other_threads_keep_their_warnings(zoo):
    """The filter that silences Pillow while decoding must not swallow what a caller's own threads say."""
    stop = threading.Event()

    def decode():
        while not stop.is_set():
            outcome(zoo[0].path)

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=decode) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(200):
            warnings.warn(f"mine {number}", stacklevel=1)
        stop.set()
        for thread in threads:
            thread.join()
    assert len(seen) == 200


def test_filters_of_warnings_can_be_copied_after_decoding(zoo):
    """scikit-learn sends the filters to its workers, and sets them there by their patterns."""
    outcome(zoo[0].path)
    with warnings.catch_warnings(record=True) as seen:
        for action, message, category, module, line in pickle.loads(pickle.dumps(warnings.filters)):
            patterns = [getattr(each, "pattern", each) or "" for each in (message, module)]
            warnings.filterwarnings(action, patterns[0], category, patterns[1], line)
        warnings.filterwarnings("always", "mine", append=False)
        warnings.warn("mine", stacklevel=1)
    assert [str(each.message) for each in seen] == ["mine"]


class TestCropFraction:
    """`Resize(round(size / fraction))` and `CenterCrop(size)`, as torchvision documents them and timm uses them."""

    @staticmethod
    def torchvision(image, resized, size, resample):
        short, long = sorted(image.size)
        new_long = int(resized * long / short)
        whole = (resized, new_long) if image.width <= image.height else (new_long, resized)
        left, top = (round((side - size) / 2.0) for side in whole)
        return image.resize(whole, resample).crop((left, top, left + size, top + size))

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
    @pytest.mark.parametrize(("size", "resized"), [(64, 73), (64, 64), (56, 64), (299, 342), (33, 47)])
    @pytest.mark.parametrize("shape", [(281, 183), (183, 281), (200, 200), (201, 2000), (31, 30)])
    def test_is_torchvisions_to_the_byte(self, photo, shape, size, resized, interpolation):
        image = photo.resize(shape, BILINEAR)
        policy = ImagePolicy(interpolation=interpolation, resize="crop", crop_fraction=size / resized)
        expected = self.torchvision(image, resized, size, Image.Resampling[interpolation.upper()])
        np.testing.assert_array_equal(policy.load(image, (size, size)), np.asarray(expected))

    @pytest.mark.parametrize("size", [(64, 32), (32, 64)])
    def test_other_shapes_are_covered(self, photo, size):
        policy = ImagePolicy(resize="crop", crop_fraction=0.5)
        for shape in [(281, 183), (183, 281), (500, 20), (20, 500)]:
            assert policy.load(photo.resize(shape), size).shape == (*size, 3)

    def test_a_line_of_pixels_does_not_take_all_memory(self):
        line = Image.fromarray(np.arange(1, dtype="uint8").repeat(200_000)[None])
        assert ImagePolicy(resize="crop", crop_fraction=0.875).load(line, (224, 224)).shape == (224, 224, 3)

    def test_stretched_as_caffe_does(self, photo):
        policy = ImagePolicy(crop_fraction=0.875)
        expected = photo.resize((64, 64), BILINEAR).crop((4, 4, 60, 60))
        np.testing.assert_array_equal(policy.load(photo, (56, 56)), np.asarray(expected))

    def test_does_not_go_with_pad(self):
        with pytest.raises(ValueError, match="needs `resize='crop'`"):
            ImagePolicy(resize="pad", crop_fraction=0.875)
        for bad in (0, 1.5, True, "0.875"):
            with pytest.raises(ValueError, match="`crop_fraction`"):
                ImagePolicy(resize="crop", crop_fraction=bad)
        policy = ImagePolicy(resize="crop", crop_fraction=0.875)
        assert ImagePolicy.from_dict(policy.to_dict()) == policy
        assert "crop_fraction" not in ImagePolicy(resize="crop").to_dict()
