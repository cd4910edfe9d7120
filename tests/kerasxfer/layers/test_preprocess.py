import re

import keras
import numpy as np
import pytest

from kerasxfer.layers import Preprocess
from kerasxfer.layers.preprocess import APPLICATION_MODES, MODES, application_name


def module_of(application):
    """The `keras.applications` module that holds a model, `vgg16` for `VGG16`."""
    return getattr(keras.applications, getattr(keras.applications, application).__module__.rsplit(".", 1)[-1])


APPLICATIONS = [
    name for name in dir(keras.applications) if not name.islower() and callable(getattr(keras.applications, name))
]


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)).astype("uint8")


def test_the_table_holds_every_application():
    assert sorted(APPLICATION_MODES) == sorted([*APPLICATIONS, "DemoVGG"])


def test_equals_every_applications_own_function(pixels):
    for application in APPLICATIONS:
        expected = module_of(application).preprocess_input(pixels.astype("float32"))
        result = keras.ops.convert_to_numpy(Preprocess(application)(pixels))
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-5, err_msg=application)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("caffe", [-83.939, -106.779, -118.68]),
        ("tf", [5 / 127.5 - 1, 10 / 127.5 - 1, 20 / 127.5 - 1]),
        ("torch", [(5 / 255 - 0.485) / 0.229, (10 / 255 - 0.456) / 0.224, (20 / 255 - 0.406) / 0.225]),
        ("rescale", [5 / 255, 10 / 255, 20 / 255]),
        ("none", [5, 10, 20]),
    ],
)
def test_values_of_each_mode(mode, expected):
    result = keras.ops.convert_to_numpy(Preprocess(mode)(np.array([[[[5, 10, 20]]]], "uint8")))

    np.testing.assert_allclose(result[0, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_floats_and_integers_give_the_same(mode, pixels):
    layer = Preprocess(mode)

    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(layer(pixels)), keras.ops.convert_to_numpy(layer(pixels.astype("float32")))
    )


@pytest.mark.parametrize("mode", MODES)
def test_channels_first_is_the_same_transposed(mode, pixels):
    first = Preprocess(mode, data_format="channels_first")(pixels.transpose(0, 3, 1, 2))

    last = Preprocess(mode, data_format="channels_last")(pixels)

    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(first).transpose(0, 2, 3, 1), keras.ops.convert_to_numpy(last)
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_the_float32_result_rounded_once(policy, pixels):
    half = Preprocess("torch", dtype=policy)(pixels.astype("float32") + 0.3)

    exact = Preprocess("torch")(pixels.astype("float32") + 0.3)

    dtype = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(half.dtype) == dtype
    rounded = keras.ops.cast(keras.ops.cast(exact, dtype), "float32")
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(keras.ops.cast(half, "float32")), keras.ops.convert_to_numpy(rounded)
    )


def test_unknown_names():
    with pytest.raises(ValueError, match=r"`mode` must be one of 'caffe'.*Received: mode='vgg'"):
        Preprocess("vgg")
    with pytest.raises(ValueError, match=re.escape("Did you mean 'VGG19' or 'VGG16'?")):
        application_name("vgg61")
    assert application_name("inceptionv3") == "InceptionV3"


def test_config_and_file_round_trip(tmp_path, pixels):
    layer = Preprocess("DenseNet121", name="pixels_in")
    assert Preprocess.from_config(layer.get_config()).get_config() == layer.get_config()
    assert layer.get_config()["mode"] == "torch"
    model = keras.Sequential([keras.Input((5, 4, 3), dtype="uint8"), layer])

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(loaded.predict(pixels, verbose=0), model.predict(pixels, verbose=0))
