"""Small models that tell images apart, and folders of images, for the tests of the cache."""

import keras
import numpy as np
import pytest
from PIL import Image

import kerasxfer


def small_model(nested=False, dropout=0.3):
    """Two frozen blocks with BatchNorm, one trained, a head with dropout; `he_normal` keeps activations alive."""

    def block(x, n, filters):
        x = keras.layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal", name=f"block{n}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block{n}_bn")(x)
        x = keras.layers.ReLU(name=f"block{n}_relu")(x)
        return keras.layers.MaxPooling2D(name=f"block{n}_pool")(x)

    images = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1, name="rescale")(images)
    for n, filters in ((1, 6), (2, 8), (3, 8)):
        x = block(x, n, filters)
    base = keras.Model(images, x, name="base")
    for layer in base.layers:
        layer.trainable = layer.name.startswith("block3") and not layer.name.endswith("bn")
    head = [
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dropout(dropout, seed=5, name="drop"),
        keras.layers.Dense(3, activation="softmax", name="dense"),
    ]
    if nested:
        model = keras.Sequential([keras.Input((16, 16, 3)), base, *head])
    else:
        for layer in head:
            x = layer(x)
        model = keras.Model(images, x)
    randomise_norms(model)
    return model


def randomise_norms(model):
    """Moving statistics as after training, so that a BatchNorm in the wrong mode shows."""
    generator = np.random.default_rng(3)
    for variable in model.variables:
        if variable.name in ("moving_mean", "beta"):
            variable.assign(generator.normal(0, 0.2, variable.shape))
        if variable.name in ("moving_variance", "gamma"):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))


@pytest.fixture
def make_model():
    """Make the same model each time it is called, as often as a test needs it; compiled."""

    def make(nested=False, optimizer="adam", metrics=("accuracy",), dropout=0.3, trainable=None, **kwargs):
        keras.utils.set_random_seed(7)
        model = small_model(nested, dropout)
        if trainable is not None:
            for layer in model.layers:
                layer.trainable = layer.name in trainable
        kwargs.setdefault("jit_compile", keras.backend.backend() == "jax")
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=list(metrics), **kwargs)
        return model

    return make


@pytest.fixture
def arrays():
    """32 images whose class is their brightest channel."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 255, (32, 16, 16, 3)).astype("float32")
    y = (np.arange(32) % 3).astype("int32")
    x[np.arange(32), :, :, y] += 60
    return x, y


@pytest.fixture
def image_folder(tmp_path):
    """Folder of 22 images in three classes."""
    generator = np.random.default_rng(1)
    root = tmp_path / "images"
    for label, name in enumerate(("a", "b", "c")):
        (root / name).mkdir(parents=True)
        for k in range(8 if label else 6):
            pixels = generator.integers(0, 200, (16, 16, 3), dtype="uint8")
            pixels[..., label] += 55
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return root


@pytest.fixture
def make_folder(image_folder):
    """Make an `ImageFolder` of the images."""

    def make(**kwargs):
        return kerasxfer.ImageFolder(image_folder, (16, 16), 4, seed=3, **kwargs)

    return make


class Steps(keras.callbacks.Callback):
    """Records the loss of every step."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


@pytest.fixture
def run_fit():
    """Run a fit and return losses per step, history and final weights."""

    def run(fit, *args, callbacks=(), **kwargs):
        steps = Steps()
        history = fit(*args, callbacks=[steps, *callbacks], verbose=0, **kwargs)
        return steps.losses, history.history

    return run


@pytest.fixture
def assert_same():
    """Equal to the bit on TensorFlow (CPU, no XLA), within 1e-5 elsewhere."""

    def check(actual, expected):
        if keras.backend.backend() == "tensorflow":
            np.testing.assert_array_equal(actual, expected)
        else:
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)

    return check
