"""Where the boundary lies, what is refused, and that the two halves are the whole."""

import functools

import keras
import numpy as np
import pytest

import kerasxfer
from kerasxfer.bottleneck.boundary import find_boundary, trained_now
from kerasxfer.bottleneck.errors import BoundaryError
from kerasxfer.bottleneck.graph import trace

IMAGES = np.random.default_rng(0).random((4, 16, 16, 3), dtype="float32") * 255


def boundary_of(model):
    graph = trace(model)
    return find_boundary(graph, trained_now(model, graph))


def branches(trained):
    """An inception-like block of two branches between two convolutions."""
    x = images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="stem")(x)
    left = keras.layers.Conv2D(4, 1, name="left")(x)
    right = keras.layers.Conv2D(4, 1, name="right")(x)
    x = keras.layers.Concatenate(name="mixed")([left, right])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(4, 1, name="top")(x))
    model = keras.Model(images, keras.layers.Dense(2, name="dense")(x))
    for layer in model.layers:
        layer.trainable = layer.name in trained
    return model


@pytest.mark.parametrize(
    ("trained", "boundary"),
    [
        ({"dense"}, "pool"),
        ({"top", "dense"}, "mixed"),
        ({"right", "top", "dense"}, "stem"),  # its frontier would be two tensors: left's output and stem's
        ({"stem"}, "input"),
    ],
)
def test_it_retreats_to_a_tensor_that_everything_passes(trained, boundary):
    assert boundary_of(branches(trained)).name == boundary


@pytest.mark.parametrize("nested", [False, True])
def test_the_halves_are_the_whole_and_share_its_variables(make_model, nested):
    model = make_model(nested)
    prefix, suffix = kerasxfer.split_at_boundary(model)
    assert prefix.output_shape == (None, 4, 4, 8)
    np.testing.assert_allclose(
        suffix.predict(prefix.predict(IMAGES, verbose=0), verbose=0), model.predict(IMAGES, verbose=0), atol=1e-6
    )
    assert {id(v) for v in suffix.trainable_variables} == {id(v) for v in model.trainable_variables}
    assert not prefix.trainable_variables


def test_a_layer_used_on_both_sides_is_shared():
    x = images = keras.Input((16, 16, 3))
    relu = keras.layers.ReLU(name="relu")
    x = relu(keras.layers.Conv2D(3, 3, padding="same", trainable=False, name="one")(x))
    x = relu(keras.layers.Conv2D(3, 3, padding="same", name="two")(x))
    model = keras.Model(images, x)
    prefix, suffix = kerasxfer.split_at_boundary(model)
    halves = suffix.predict(prefix.predict(IMAGES, verbose=0), verbose=0)
    np.testing.assert_allclose(halves, model.predict(IMAGES, verbose=0), atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (keras.layers.Dropout(0.5, name="odd"), "`odd` is random in training, frozen or not"),
        (keras.layers.BatchNormalization(name="odd"), "`odd` is trained"),
        (keras.layers.BatchNormalization(scale=False, center=False, name="odd"), "`odd` normalises by the batch"),
        (keras.layers.Activation("relu", activity_regularizer="l2", name="odd"), "`odd` adds an activity regularis"),
    ],
)
def test_refusals_name_the_layer_and_the_remedy(layer, reason):
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(3, 3, trainable=False)(layer(images))
    model = keras.Model(images, keras.layers.Dense(2)(x))
    with pytest.raises(BoundaryError, match=rf"no frozen layers to cache: layer {reason}"):
        kerasxfer.split_at_boundary(model)
    layer.trainable = False
    if isinstance(layer, keras.layers.BatchNormalization):
        kerasxfer.split_at_boundary(model)
    else:
        with pytest.raises(BoundaryError):
            kerasxfer.split_at_boundary(model)


def test_augmentation_in_the_model_offers_both_ways_out():
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(3, 3, trainable=False)(keras.layers.RandomFlip()(images))
    with pytest.raises(BoundaryError, match=r"copies=K.*plain images"):
        kerasxfer.split_at_boundary(keras.Model(images, keras.layers.Dense(2)(x)))


def test_refuses_models_without_one_graph():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(BoundaryError, match="must be a built functional or Sequential model"):
        kerasxfer.split_at_boundary(Own())
    first, second = keras.Input((2,)), keras.Input((2,))
    with pytest.raises(BoundaryError, match="must have one input"):
        kerasxfer.split_at_boundary(keras.Model([first, second], keras.layers.Add()([first, second])))


def twins():
    """Two applications of one kind in a model: all their layers have the same names."""

    def branch(images, name):
        x = keras.layers.Conv2D(4, 3, name="conv")(inputs := keras.Input((16, 16, 3)))
        x = keras.layers.BatchNormalization(name="norm")(x)
        x = keras.layers.Conv2D(4, 3, activation="relu", name="conv_2")(x)
        return keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pool")(x), name=name)(images)

    images = keras.Input((16, 16, 3))
    x = keras.layers.Concatenate(name="both")([branch(images, "left"), branch(images, "right")])
    x = keras.layers.Dense(4, activation="relu", name="hidden")(x)
    model = keras.Model(images, keras.layers.Dense(3, activation="softmax", name="dense")(x))
    for layer in model.layers:
        layer.trainable = layer.name in ("hidden", "dense")
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=keras.backend.backend() == "jax")
    return model


def test_two_applications_with_equal_layer_names(tmp_path, run_fit, assert_same):
    x, y = IMAGES / 255, np.array([0, 1, 2, 0])
    runs = []
    for cached in (False, True):
        keras.utils.set_random_seed(7)
        model = twins()
        cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
        fit = functools.partial(cache.fit, model) if cached else model.fit
        runs.append(run_fit(fit, x, y, epochs=3, shuffle=False)[0])
    assert_same(runs[1], runs[0])
    assert [row["boundary"] for row in cache.list()] == ["both"]
    prefix, suffix = kerasxfer.split_at_boundary(model)
    assert len(prefix.layers) == len({layer.name for layer in prefix.layers})
    to_numpy = keras.ops.convert_to_numpy
    np.testing.assert_allclose(to_numpy(suffix(prefix(x))), to_numpy(model(x)), atol=1e-6)
    prefix.save(tmp_path / "prefix.keras")
    again = keras.saving.load_model(tmp_path / "prefix.keras")
    np.testing.assert_allclose(to_numpy(again(x)), to_numpy(prefix(x)), atol=1e-6)
