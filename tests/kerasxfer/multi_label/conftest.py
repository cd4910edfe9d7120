"""Images of which each has any number of three colours, a table of them, and a model that tells the colours apart."""

import itertools

import keras
import numpy as np
import pytest
from PIL import Image

import kerasxfer

NAMES = ("blue", "green", "red")
SIZE = (16, 16)
_CHANNELS = {"red": 0, "green": 1, "blue": 2}


def draw_table(root, images, seed=0):
    """Write `images` images and `labels.csv`; the labels of an image are the channels that are bright in it."""
    rng = np.random.default_rng(seed)
    (root / "photos").mkdir(parents=True)
    combinations = [names for size in range(4) for names in itertools.combinations(NAMES, size)]
    lines = ["image,label"]
    for number in range(images):
        labels = combinations[number % len(combinations)]
        pixels = rng.integers(0, 90, (*SIZE, 3))
        for name in labels:
            pixels[..., _CHANNELS[name]] = rng.integers(160, 255, SIZE)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "photos" / f"{number:03}.png")
        lines.append(f"photos/{number:03}.png,{'|'.join(labels)}")
    table = root / "labels.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.fixture(name="draw_table", scope="session")
def draw_table_fixture():
    return draw_table


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """A table of 40 labelled images."""
    return draw_table(tmp_path_factory.mktemp("table"), 40)


def backbone():
    """The mean of each channel, untouched: nothing needs to be trained for the head to tell the colours."""
    images = keras.Input((*SIZE, 3))
    identity = keras.initializers.Constant(np.eye(3)[None, None])
    return keras.Model(images, keras.layers.Conv2D(3, 1, kernel_initializer=identity, name="colours")(images))


def make_model():
    """A multi-label classifier that gives sigmoid(8 (c - 0.5)) for a mean c of the channel, in 0 to 1."""
    made = kerasxfer.image_classifier(backbone(), NAMES, SIZE, preprocess="rescale", multi_label=True)
    made.get_layer("head").set_weights([8 * np.eye(3)[:, ::-1], np.full(3, -4.0)])
    made.compile("adam", "binary_crossentropy")
    return made


@pytest.fixture
def model():
    return make_model()


@pytest.fixture(scope="session")
def exported(tmp_path_factory, table):
    """The file of `model`, with thresholds of its own, checked on the table."""
    out = tmp_path_factory.mktemp("exported") / "model.onnx"
    return kerasxfer.export_onnx(make_model(), out, thresholds=(0.5, 0.6, 0.7), check=table, verbose=False)
