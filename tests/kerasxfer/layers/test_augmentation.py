import keras
import numpy as np
import pytest
from scipy import ndimage

from kerasxfer.layers import Augmentation
from kerasxfer.layers.augmentation import _DRAWS
from kerasxfer.layers.sampling import sample

HEIGHT, WIDTH = 18, 24

EVERYTHING = {
    "rotation_range": 40,
    "width_shift_range": 0.2,
    "height_shift_range": 3.0,
    "shear_range": 20.0,
    "zoom_range": (0.7, 1.4),
    "horizontal_flip": True,
    "vertical_flip": True,
    "brightness_range": (0.5, 1.5),
    "channel_shift_range": 30,
}


@pytest.fixture
def photos():
    """Smooth ones: where two bilinear readings differ by a rounded coordinate, their values do not."""
    noise = np.random.default_rng(0).uniform(0, 255, (3, HEIGHT, WIDTH, 3))
    return ndimage.gaussian_filter(noise, (0, 2, 2, 0)).astype("float32") * 4 - 380


def draws_of(count=1, **values):
    """Draws of 0.5, which change nothing, but for those given: 0 and 1 are the ends of their range."""
    return np.array([[values.get(name, 0.5) for name in _DRAWS]] * count, "float32")


def transform(photos, draws, **kwargs):
    """What a model computes from these draws, which must be what NumPy does."""
    layer = Augmentation(**kwargs)
    pixels = keras.ops.convert_to_tensor(photos, "float32")
    result = keras.ops.convert_to_numpy(layer._transform(keras.ops, pixels, keras.ops.convert_to_tensor(draws)))
    plain = layer._transform(np, photos.astype("float32"), draws)
    assert plain.dtype == np.float32
    # A coordinate that rounds to the other side of the photo's edge makes another pixel of a constant fill.
    assert np.mean(np.abs(result - plain) > 0.02) < 0.002
    return result


def reference(photo, rotation, shift, shear, zoom, flips, fill_mode="nearest", cval=0.0):
    """ImageDataGenerator's chain of 3 × 3 matrices on (x, y) about the centre, sampled by SciPy; then the flips."""
    angle, slant = np.deg2rad(rotation), np.deg2rad(shear)
    rotate = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    move = [[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]]
    lean = [[1, -np.sin(slant), 0], [0, np.cos(slant), 0], [0, 0, 1]]
    scale = np.diag([*zoom, 1])
    centre = np.array([[1, 0, (WIDTH - 1) / 2], [0, 1, (HEIGHT - 1) / 2], [0, 0, 1]])
    matrix = centre @ rotate @ move @ lean @ scale @ np.linalg.inv(centre)
    swap = matrix[[1, 0, 2]][:, [1, 0, 2]]  # SciPy's coordinates are (row, column)
    mode = {"wrap": "grid-wrap"}.get(fill_mode, fill_mode)
    channels = [
        ndimage.affine_transform(channel, swap[:2, :2], swap[:2, 2], order=1, mode=mode, cval=cval)
        for channel in np.moveaxis(photo.astype("float64"), -1, 0)
    ]
    photo = np.stack(channels, -1)
    return photo[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]


@pytest.mark.parametrize("fill_mode", ["nearest", "constant", "reflect", "wrap"])
def test_the_whole_chain_equals_scipys(photos, fill_mode):
    draws = np.random.default_rng(1).uniform(size=(3, len(_DRAWS))).astype("float32")
    geometry = {
        key: EVERYTHING[key] for key in EVERYTHING if key not in ("brightness_range", "channel_shift_range")
    } | {"fill_mode": fill_mode, "cval": 7.0}

    result = transform(photos, draws, **geometry)

    for photo, row, image in zip(photos, draws, result, strict=True):
        u = dict(zip(_DRAWS, row, strict=True))
        expected = reference(
            photo,
            rotation=(2 * u["rotation"] - 1) * 40,
            shift=((2 * u["width_shift"] - 1) * 0.2 * WIDTH, (2 * u["height_shift"] - 1) * 3.0),
            shear=(2 * u["shear"] - 1) * 20,
            zoom=(0.7 + u["zoom_x"] * 0.7, 0.7 + u["zoom_y"] * 0.7),
            flips=(u["horizontal_flip"] < 0.5, u["vertical_flip"] < 0.5),
            fill_mode=fill_mode,
            cval=7.0,
        )
        difference = np.abs(image - expected).max(-1)
        # A pixel whose coordinate is the photo's very edge may fall to either side of it.
        assert np.sort(difference.ravel())[-3 if fill_mode == "constant" else -1] < 0.05
        assert np.ptp(expected) > 50


def test_rotation_by_a_right_angle_is_exact():
    photo = np.random.default_rng(0).integers(0, 256, (1, 9, 9, 3)).astype("uint8")

    result = transform(photo, draws_of(rotation=1.0), rotation_range=90)

    np.testing.assert_allclose(result[0], np.rot90(photo[0]), atol=1e-3)


@pytest.mark.parametrize(
    ("kwargs", "draws", "columns"),
    [
        ({"width_shift_range": 0.25}, {"width_shift": 1.0}, 0.25 * WIDTH),
        ({"width_shift_range": 0.25}, {"width_shift": 0.0}, -0.25 * WIDTH),
        ({"width_shift_range": 4.0}, {"width_shift": 1.0}, 4),
        ({"width_shift_range": 4}, {"width_shift": 0.99, "width_sign": 0.9}, 3),
        ({"width_shift_range": 4}, {"width_shift": 0.3, "width_sign": 0.1}, -1),
        ({"width_shift_range": (2, 5)}, {"width_shift": 0.9, "width_sign": 0.9}, 5),
        ({"width_shift_range": [0.25, 0.5]}, {"width_shift": 0.9, "width_sign": 0.1}, -0.5 * WIDTH),
    ],
)
def test_shifts_are_shares_or_pixels(photos, kwargs, draws, columns):
    result = transform(photos[:1], draws_of(**draws), fill_mode="wrap", **kwargs)

    np.testing.assert_allclose(result[0], np.roll(photos[0], -int(columns), axis=1), atol=1e-3)


def test_height_shift_moves_rows(photos):
    result = transform(photos[:1], draws_of(height_shift=1.0), height_shift_range=5.0, fill_mode="wrap")

    np.testing.assert_allclose(result[0], np.roll(photos[0], -5, axis=0), atol=1e-3)


def test_zoom_is_drawn_for_each_axis_and_above_one_shows_more():
    photo = np.full((1, 9, 9, 3), 200, "uint8")

    result = transform(photo, draws_of(zoom_x=1.0, zoom_y=0.5), zoom_range=0.5, fill_mode="constant", cval=0)

    # 1.5 times as much in x: the photo's 9 columns now fill 6; in y it is as it was.
    assert (result[0, :, :, 0] > 0).sum(axis=1).tolist() == [5] * 9
    assert (result[0, :, 4] == 200).all()


@pytest.mark.parametrize(("axis", "name"), [(1, "horizontal_flip"), (0, "vertical_flip")])
def test_flips_are_exact(photos, axis, name):
    flipped = transform(photos[:1], draws_of(**{name: 0.4}), **{name: True})
    left = transform(photos[:1], draws_of(**{name: 0.6}), **{name: True})

    np.testing.assert_array_equal(flipped[0], np.flip(photos[0], axis))
    np.testing.assert_array_equal(left[0], photos[0])


def test_brightness_multiplies_and_stays_in_range():
    photo = np.array([[[[10, 100, 200]]]], "uint8")

    result = transform(photo, draws_of(brightness=1.0), brightness_range=(0.5, 2.0))

    np.testing.assert_allclose(result[0, 0, 0], [20, 200, 255])


def test_channel_shift_adds_to_all_channels_within_the_images_own_range():
    photo = np.array([[[[10, 100, 200], [40, 50, 60]]]], "uint8")

    up = transform(photo, draws_of(channel_shift=1.0), channel_shift_range=30)
    down = transform(photo, draws_of(channel_shift=0.0), channel_shift_range=30)

    np.testing.assert_allclose(up[0, 0], [[40, 130, 200], [70, 80, 90]])
    np.testing.assert_allclose(down[0, 0], [[10, 70, 170], [10, 20, 30]])


def test_identity_at_inference_and_where_nothing_is_asked_for(photos):
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(Augmentation(**EVERYTHING)(photos)), photos)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(Augmentation()(photos, training=True)), photos)


def test_each_image_gets_its_own_draws(photos):
    same = np.repeat(photos[:1], 3, axis=0)

    result = keras.ops.convert_to_numpy(Augmentation(rotation_range=40, seed=1)(same, training=True))

    assert not np.allclose(result[0], result[1])
    assert not np.allclose(result[1], result[2])


def test_the_seed_fixes_the_sequence(photos):
    def run(seed):
        layer = Augmentation(**EVERYTHING, seed=seed)
        return [keras.ops.convert_to_numpy(layer(photos, training=True)) for _ in range(2)]

    first, second = run(1)

    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(run(1), [first, second])
    assert not np.array_equal(run(2)[0], first)


def test_augment_depends_on_seed_and_row_alone(photos):
    layer = Augmentation(**EVERYTHING)

    whole = layer.augment(photos, (5, 2), rows=[10, 11, 12])
    part = layer.augment(photos[1:], (5, 2), rows=[11, 12])

    assert whole.dtype == np.float32
    np.testing.assert_array_equal(part, whole[1:])
    assert not np.allclose(layer.augment(photos, (5, 3), rows=[10, 11, 12]), whole)
    np.testing.assert_array_equal(layer.augment(photos, 5), layer.augment(photos, (5,), rows=[0, 1, 2]))


def test_augment_gives_the_same_numbers_everywhere():
    """Caches keep augmented copies: what a seed and a row give must not change."""
    photo = np.arange(4 * 4 * 3, dtype="float32").reshape(1, 4, 4, 3) * 5

    result = Augmentation(**EVERYTHING).augment(photo, 3)

    expected = [84.3827, 89.0483, 93.714, 44.4639, 49.1295, 53.7952]
    np.testing.assert_allclose(result[0, 1, :2].ravel(), expected, atol=1e-3)


def test_turning_one_parameter_on_leaves_the_others_draws(photos):
    plain = Augmentation(rotation_range=40).augment(photos, 3)
    brighter = Augmentation(rotation_range=40, brightness_range=(1.0, 1.0)).augment(photos, 3)

    np.testing.assert_allclose(brighter, np.clip(plain, 0, 255), atol=1e-3)


def test_channels_first_is_the_same_transposed(photos):
    last = Augmentation(**EVERYTHING, data_format="channels_last").augment(photos, 1)
    first = Augmentation(**EVERYTHING, data_format="channels_first").augment(photos.transpose(0, 3, 1, 2), 1)

    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), last)


def test_mixed_precision_rounds_only_the_result(photos):
    exact = Augmentation(**EVERYTHING, seed=1)(photos, training=True)
    half = Augmentation(**EVERYTHING, seed=1, dtype="mixed_float16")(photos, training=True)

    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(half), keras.ops.convert_to_numpy(keras.ops.cast(exact, "float16"))
    )


def test_in_a_compiled_model(photos):
    inputs = keras.Input((HEIGHT, WIDTH, 3), dtype="uint8")
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(Augmentation(**EVERYTHING, seed=1)(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(1e-9), "mse")
    pixels = np.clip(photos, 0, 255).astype("uint8")

    losses = model.fit(pixels, np.ones((3, 1)), epochs=3, batch_size=2, verbose=0).history["loss"]

    assert len(set(losses)) == 3  # other photos in every epoch
    np.testing.assert_array_equal(model.predict(pixels, verbose=0), model.predict(pixels, verbose=0))


def test_sampling_under_the_identity_is_exact(photos):
    for fill_mode in ("nearest", "constant", "reflect", "wrap"):
        matrix = np.repeat(np.eye(2, dtype="float32")[None], 3, axis=0)
        result = sample(np, photos, matrix, np.zeros((3, 2), "float32"), fill_mode, 0.0)
        np.testing.assert_array_equal(result, photos)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rotation_range": -1}, "`rotation_range` must be"),
        ({"shear_range": "20"}, "`shear_range` must be"),
        ({"channel_shift_range": -5.0}, "`channel_shift_range` must be"),
        ({"width_shift_range": -0.1}, "`width_shift_range` must be"),
        ({"height_shift_range": ()}, "`height_shift_range` must be"),
        ({"zoom_range": 1.0}, "`zoom_range` must be"),
        ({"zoom_range": (1.2, 0.8)}, "`zoom_range` must be"),
        ({"zoom_range": (0.8, 1.0, 1.2)}, "`zoom_range` must be"),
        ({"brightness_range": 0.5}, "`brightness_range` must be"),
        ({"brightness_range": (-0.5, 0.5)}, "`brightness_range` must be"),
        ({"fill_mode": "mirror"}, "`fill_mode` must be one of"),
    ],
)
def test_invalid_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**kwargs)


def test_config_and_file_round_trip(tmp_path, photos):
    layer = Augmentation(**EVERYTHING, fill_mode="reflect", seed=4, name="augmentation")
    restored = Augmentation.from_config(layer.get_config())
    assert restored.get_config() == layer.get_config()
    np.testing.assert_array_equal(restored.augment(photos, 1), layer.augment(photos, 1))
    model = keras.Sequential([keras.Input((HEIGHT, WIDTH, 3)), layer])

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(loaded.layers[0].augment(photos, 1), layer.augment(photos, 1))
