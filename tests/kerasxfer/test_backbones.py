import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kerasxfer.backbones.applications import WeightsError, load_backbone

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def mobilenet():
    return keras.applications.MobileNet(alpha=0.25, include_top=False, input_shape=SHAPE, weights=None)


@pytest.mark.parametrize("name", ["network.weights.h5", "network.h5"])
def test_a_file_is_loaded_into_the_whole_network(mobilenet, tmp_path, name):
    network = mobilenet
    network.save_weights(tmp_path / "network.weights.h5")
    if name == "network.h5":
        network.save(tmp_path / name)

    loaded = load_backbone("mobilenet", SHAPE, tmp_path / name, {"alpha": 0.25})

    for expected, value in zip(network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_file_of_another_width_names_the_argument(mobilenet, tmp_path):
    mobilenet.save_weights(tmp_path / "narrow.weights.h5")

    with pytest.raises(WeightsError, match=r"(?s)'.*narrow.weights.h5' does not fit MobileNet.*alpha=0.75"):
        load_backbone("MobileNet", SHAPE, tmp_path / "narrow.weights.h5", {})


def test_a_file_that_lacks_layers_is_refused(mobilenet, tmp_path):
    """Keras 3 only warns, and leaves those layers as they are: random."""
    part = keras.Model(mobilenet.input, mobilenet.get_layer("conv_pw_3_relu").output)
    part.save_weights(tmp_path / "part.weights.h5")

    with pytest.raises(WeightsError, match="does not fit MobileNet"):
        load_backbone("MobileNet", SHAPE, tmp_path / "part.weights.h5", {"alpha": 0.25})


def test_files_that_hold_no_weights(tmp_path):
    (tmp_path / "text.weights.h5").write_text("no weights")

    with pytest.raises(WeightsError, match="does not fit"):
        load_backbone("MobileNet", SHAPE, tmp_path / "text.weights.h5", {})
    with pytest.raises(WeightsError, match="which is not a file"):
        load_backbone("MobileNet", SHAPE, tmp_path / "nowhere.h5", {})


def test_what_the_application_refuses_is_not_about_the_weights(mobilenet, tmp_path):
    mobilenet.save_weights(tmp_path / "network.weights.h5")

    with pytest.raises(ValueError, match="at least 32"):
        load_backbone("MobileNet", (16, 16, 3), tmp_path / "network.weights.h5", {"alpha": 0.25})


OUT_OF_REACH = """
from kerasxfer.backbones.applications import WeightsError, load_backbone
try:
    load_backbone("MobileNetV2", (96, 96, 3), "imagenet", {"alpha": 0.35})
except WeightsError as error:
    print(error)
"""


def test_imagenet_weights_out_of_reach_name_the_file_and_three_ways_out(tmp_path):
    dead = "http://127.0.0.1:9"
    environment = os.environ | {"KERAS_HOME": str(tmp_path), "https_proxy": dead, "HTTPS_PROXY": dead, "no_proxy": ""}

    result = subprocess.run(
        [sys.executable, "-c", OUT_OF_REACH], capture_output=True, text=True, env=environment, check=True
    )

    message = result.stdout[result.stdout.index("The ImageNet weights") :]
    file = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"
    assert f"MobileNetV2, '{file}'" in message
    assert f"put it at '{tmp_path / 'models' / file}'" in message
    assert "weights='path/to/file.h5'" in message
    assert "DemoVGG" in message
    assert "weights=None" in message
