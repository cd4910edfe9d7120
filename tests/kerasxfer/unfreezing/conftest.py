"""A small convolutional net with BatchNorm, flat and nested, and images it can tell apart."""

import keras
import numpy as np
import pytest
from keras import layers

SIZE = 8


def _backbone(same_shape):
    inputs = layers.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="block0_conv")(inputs)
    x = layers.BatchNormalization(momentum=0.5, name="block0_bn")(x)
    for number, width in ((1, 4), (2, 4), (3, 4 if same_shape else 6)):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"block{number}_conv")(x)
        x = layers.BatchNormalization(momentum=0.5, name=f"block{number}_bn")(x)
        x = layers.ReLU(name=f"block{number}_relu")(x)
    return keras.Model(inputs, x, name="backbone")


def _build(
    optimizer="adam", nested=False, same_shape=True, model_class=keras.Model, training=None, **compile_arguments
):
    keras.utils.set_random_seed(7)
    backbone = _backbone(same_shape)
    if nested:
        inputs = layers.Input((SIZE, SIZE, 3))
        features = backbone(inputs) if training is None else backbone(inputs, training=training)
    else:
        inputs, features = backbone.input, backbone.output
    x = layers.GlobalAveragePooling2D(name="pool")(features)
    x = layers.Dropout(0.25, seed=3, name="dropout")(x)
    model = model_class(inputs, layers.Dense(1, activation="sigmoid", name="predictions")(x))
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"], **compile_arguments)
    return model


@pytest.fixture
def build():
    """`build(optimizer, nested=False, same_shape=True, **compile)`: always the same weights; blocks `block0…block3`."""
    return _build


@pytest.fixture
def images():
    """24 images and their labels."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, 2, (24, 1)).astype("float32")
    x = rng.normal(size=(24, SIZE, SIZE, 3)).astype("float32") + y[:, :, None, None] * np.array(
        [1.0, -0.5, 0.0], "float32"
    )
    return x, y


@pytest.fixture
def weights():
    """`weights(model, "block1")`: the weights whose names begin so, as one dictionary of arrays."""

    def read(model, prefix=""):
        found = {}
        for weight in model.weights:
            parts = weight.path.split("/")
            if any(part.startswith(prefix) for part in parts):
                found[weight.path] = np.array(keras.ops.convert_to_numpy(weight))
        assert found, prefix
        return found

    return read


@pytest.fixture
def same():
    """`same(a, b)`: whether two such dictionaries are equal bit for bit."""

    def compare(first, second):
        assert first.keys() == second.keys()
        return all(np.array_equal(first[key], second[key]) for key in first)

    return compare


class _Ordered(keras.utils.PyDataset):
    """Images in an order that follows from the epoch alone, as `ImageFolder` with a seed gives them."""

    def __init__(self, x, y, batch_size):
        super().__init__()
        self.x, self.y, self.batch_size, self.epoch = x, y, batch_size, 0

    def __len__(self):
        return len(self.x) // self.batch_size

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        order = np.random.default_rng(self.epoch).permutation(len(self.x))
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.x[rows], self.y[rows]


@pytest.fixture
def ordered(images):
    """A data set of 3 batches with an order of its own for each epoch."""
    return _Ordered(*images, batch_size=8)
