"""Models whose answers tell images apart, images, and one export that most tests look at."""

import importlib.util
import sys
import textwrap

import keras
import numpy as np
import pytest
from kerasxfer_serving.images import ImagePolicy
from PIL import Image

from kerasxfer import export_onnx
from kerasxfer.export.proof import choose_samples

CLASSES = ("cats", "dogs", "newts")


def tell_apart(model, seed=0):
    """He-normal kernels and BatchNormalization statistics that do something, in place."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        shape = tuple(variable.shape)
        name = variable.path.rpartition("/")[2]
        if name == "kernel":
            depthwise = len(shape) == 4 and shape[3] == 1
            fan_in = np.prod(shape[:2] if depthwise else shape[:-1])
            variable.assign(rng.normal(0, np.sqrt(2 / fan_in), shape))
        elif name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.7, 1.4, shape))
        elif name in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0, 0.1, shape))
    return model


def spread_head(model, head, images, seed=0, deviation=2):
    """Set a dense layer so that its products have mean 0 and this deviation over `images`, in place."""
    features = keras.Model(model.inputs, head.input).predict(images, verbose=0)
    rng = np.random.default_rng(seed)
    scale = features.std(axis=0) + 0.1 * features.std()
    kernel = rng.normal(0, 1, (features.shape[1], head.units)) / scale[:, None]
    kernel *= deviation / (features @ kernel).std(axis=0)
    head.set_weights([kernel, -features.mean(axis=0) @ kernel])
    return model


@pytest.fixture(name="tell_apart", scope="session")
def tell_apart_fixture():
    return tell_apart


@pytest.fixture(name="spread_head", scope="session")
def spread_head_fixture():
    return spread_head


@pytest.fixture(scope="session")
def samples():
    """Thirty-two drawn images of 32 × 40, as the exporter draws them."""
    return choose_samples(None, 32, (32, 40), ImagePolicy())


@pytest.fixture(scope="session")
def custom_layers(tmp_path_factory):
    """A module outside `sys.path` with a registered layer and one whose answer depends on the process."""
    file = tmp_path_factory.mktemp("modules") / "export_test_layers.py"
    file.write_text(
        textwrap.dedent(
            """
            import keras

            SHIFT = 0.0

            @keras.saving.register_keras_serializable(package="export_test")
            class Gate(keras.layers.Layer):
                def build(self, shape):
                    self.strength = self.add_weight(shape=(shape[-1],), initializer="ones", name="strength")

                def call(self, x):
                    return x * keras.ops.sigmoid(self.strength)

            @keras.saving.register_keras_serializable(package="export_test")
            class Drifting(keras.layers.Layer):
                def call(self, x):
                    return x + SHIFT

            @keras.saving.register_keras_serializable(package="export_test")
            class Subclassed(keras.Model):
                def __init__(self, **kwargs):
                    super().__init__(**kwargs)
                    drawn = keras.initializers.RandomNormal(0, 0.3, seed=3)
                    self.head = keras.layers.Dense(3, "softmax", kernel_initializer=drawn)
                    self.scale = keras.layers.Rescaling(1 / 127.5, -1)
                    self.conv = keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=drawn)
                    self.drop, self.pool = keras.layers.Dropout(0.5), keras.layers.GlobalMaxPooling2D()

                def call(self, x, training=None):
                    return self.head(self.drop(self.pool(self.conv(self.scale(x))), training=training))
            """
        )
    )
    spec = importlib.util.spec_from_file_location("export_test_layers", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["export_test_layers"] = module
    spec.loader.exec_module(module)
    return module


def small_model(images, middle=(), *, units=3, activation=None, head=True):
    """Conv, BatchNormalization, `middle`, pooling and a dense head: the smallest that has what real ones have."""
    layers = keras.layers
    inputs = keras.Input(images.shape[1:], name="pixels")
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    x = layers.Conv2D(8, 3, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for layer in middle:
        x = layer(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(units, activation=activation, dtype="float32", name="head")(x))
    return spread_head(tell_apart(model), model.get_layer("head"), images.astype("float32"))


@pytest.fixture(name="small_model", scope="session")
def small_model_fixture():
    return small_model


@pytest.fixture(scope="session")
def rich_model(samples, custom_layers):
    """Random layers, a nested model, a custom layer and logits in one model."""
    layers = keras.layers
    nested = keras.Sequential([layers.Conv2D(8, 3, activation="relu"), layers.Dropout(0.5)], name="nested")
    middle = [layers.RandomFlip(), layers.RandomRotation(0.2), nested, custom_layers.Gate()]
    return small_model(samples.images, middle)


@pytest.fixture(scope="session")
def exported(rich_model, tmp_path_factory):
    """`rich_model` in a file, with its features."""
    path = tmp_path_factory.mktemp("exported") / "rich.onnx"
    return export_onnx(rich_model, path, class_names=CLASSES, features=True, verbose=False)


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory, rich_model):
    """Thirty-two labelled images: each lies in the folder of the class that `rich_model` clearly sees in it."""
    root = tmp_path_factory.mktemp("data")
    images = choose_samples(None, 64, (32, 40), ImagePolicy()).images
    scores = rich_model.predict(images.astype("float32"), verbose=0)
    clear = np.flatnonzero(np.diff(np.sort(scores, axis=1)[:, -2:], axis=1)[:, 0] > 0.3)[:32]
    for name in CLASSES:
        (root / name).mkdir()
    for number in clear:
        Image.fromarray(images[number]).save(root / CLASSES[scores[number].argmax()] / f"{number:02d}.png")
    return root
