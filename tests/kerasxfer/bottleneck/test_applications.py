"""The cached fit of whole architectures, to the bit on TensorFlow: VGG16, InceptionV3, a nested Sequential."""

from functools import partial

import keras
import numpy as np
import pytest

import kerasxfer

pytestmark = pytest.mark.slow


def he(model):
    """Seeded weights that keep activations alive through many layers."""
    generator = np.random.default_rng(0)
    for variable in model.variables:
        if len(variable.shape) == 4:
            scale = np.sqrt(2 / np.prod(variable.shape[:-1]))
            variable.assign(generator.normal(0, scale, variable.shape).astype("float32"))


def vgg16(head):
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    for layer in base.layers:
        layer.trainable = layer.name.startswith("block5")
    return base, keras.Model(base.input, head(base.output)), "block4_pool"


def nested_vgg16(head):
    base, _, boundary = vgg16(head)
    return base, keras.Sequential([base, *head.layers]), boundary


def inception_v3(head):
    base = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(75, 75, 3))
    names = [layer.name for layer in base.layers]
    for k, layer in enumerate(base.layers):
        unfrozen = k > names.index("mixed7") and not isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = unfrozen
    return base, keras.Model(base.input, head(base.output)), "mixed7"


@pytest.mark.parametrize("make", [vgg16, nested_vgg16, inception_v3])
def test_two_epochs_are_those_of_fit(make, run_fit, assert_same, tmp_path):
    runs = []
    for cached in (False, True):
        keras.utils.set_random_seed(1)
        head = keras.Sequential(
            [keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.5), keras.layers.Dense(2, "softmax")]
        )
        base, model, boundary = make(head)
        he(base)
        x = np.random.default_rng(2).normal(size=(10, *base.input_shape[1:])).astype("float32")
        y = np.arange(10) % 2
        model.compile(
            keras.optimizers.Adam(1e-5), "sparse_categorical_crossentropy",
            jit_compile=keras.backend.backend() == "jax",
        )  # fmt: skip
        cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
        fit = partial(cache.fit, model) if cached else model.fit
        losses, _ = run_fit(fit, x, y, batch_size=4, epochs=2, shuffle=False)
        runs.append((losses, [keras.ops.convert_to_numpy(variable) for variable in model.variables]))
    assert [row["boundary"] for row in cache.list()] == [boundary]
    (losses, weights), (cached_losses, cached_weights) = runs
    assert_same(cached_losses, losses)
    for theirs, ours in zip(weights, cached_weights, strict=True):
        assert_same(ours, theirs)
