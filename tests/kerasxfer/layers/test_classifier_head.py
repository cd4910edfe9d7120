import keras
import numpy as np
import pytest

from kerasxfer.layers import ClassifierHead


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(4, 3, 2, 5)).astype("float32")


def dense(x, layer):
    kernel, bias = layer.get_weights()
    return x @ kernel + bias


POOLED = {
    "average": lambda x: x.mean((1, 2)),
    "max": lambda x: x.max((1, 2)),
    "flatten": lambda x: x.reshape(len(x), -1),
}


@pytest.mark.parametrize("pooling", POOLED)
def test_values(pooling, features):
    head = ClassifierHead(3, pooling, hidden_units=(6, 4), dropout=0.5)

    result = keras.ops.convert_to_numpy(head(features))

    x = POOLED[pooling](features)
    for layer in head.hidden:
        x = np.maximum(dense(x, layer), 0)
    logits = dense(x, head.predictions)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(result, expected, rtol=1e-4)


def test_one_sigmoid_unit(features):
    head = ClassifierHead(2, activation="sigmoid")

    result = keras.ops.convert_to_numpy(head(features))

    assert result.shape == (4, 1)
    np.testing.assert_allclose(result, 1 / (1 + np.exp(-dense(features.mean((1, 2)), head.predictions))), rtol=1e-4)


def test_dropout_acts_in_training_only(features):
    head = ClassifierHead(3, hidden_units=(64,), dropout=0.5, seed=1)

    still, again = (keras.ops.convert_to_numpy(head(features)) for _ in range(2))
    trained, other = (keras.ops.convert_to_numpy(head(features, training=True)) for _ in range(2))

    np.testing.assert_array_equal(still, again)
    assert not np.allclose(trained, still)
    assert not np.allclose(trained, other)


def test_probabilities_stay_float32_under_mixed_precision(features):
    head = ClassifierHead(3, hidden_units=(6,), dtype="mixed_float16")

    result = head(features)

    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    assert head.hidden[0].compute_dtype == "float16"
    assert head.hidden[0].kernel.dtype == "float32"


def test_channels_first_pools_the_same(features):
    last = ClassifierHead(3, data_format="channels_last")
    first = ClassifierHead(3, data_format="channels_first")
    expected = keras.ops.convert_to_numpy(last(features))
    first.build((4, 5, 3, 2))
    first.set_weights(last.get_weights())

    result = keras.ops.convert_to_numpy(first(features.transpose(0, 3, 1, 2)))

    np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("spec", "pooling", "hidden_units"),
    [("average", "average", ()), ("max", "max", ()), ("flatten-256", "flatten", (256,)), ("max-8-4", "max", (8, 4))],
)
def test_from_spec(spec, pooling, hidden_units):
    head = ClassifierHead.from_spec(spec, 2, dropout=0.5, activation="sigmoid")

    assert (head.pooling, head.hidden_units, head.dropout, head.activation) == (pooling, hidden_units, 0.5, "sigmoid")


@pytest.mark.parametrize("spec", ["", "mean", "256", "flatten-", "flatten-0", "flatten-x", "flatten--1"])
def test_unreadable_specs(spec):
    with pytest.raises(ValueError, match="`head` must be"):
        ClassifierHead.from_spec(spec, 2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"classes": 1}, "`classes` must be"),
        ({"classes": 2.5}, "`classes` must be"),
        ({"pooling": "mean"}, "`pooling` must be one of"),
        ({"hidden_units": (0,)}, "`hidden_units` must be positive"),
        ({"dropout": 1.0}, "`dropout` must be"),
        ({"activation": "linear"}, "`activation` must be"),
        ({"activation": "sigmoid"}, "one unit for two classes.*classes=3"),
    ],
)
def test_invalid_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ClassifierHead(**{"classes": 3} | kwargs)


def test_config_and_file_round_trip(tmp_path, features):
    head = ClassifierHead(3, "flatten", (6, 4), dropout=0.25, seed=3, name="head")
    assert ClassifierHead.from_config(head.get_config()).get_config() == head.get_config()
    model = keras.Sequential([keras.Input((3, 2, 5)), head])

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(loaded.predict(features, verbose=0), model.predict(features, verbose=0))
    assert len(loaded.weights) == 6


def test_trains(features):
    model = keras.Sequential([keras.Input((3, 2, 5)), ClassifierHead(2, hidden_units=(8,), dropout=0.1)])
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    labels = (features.mean((1, 2, 3)) > np.median(features.mean((1, 2, 3)))).astype("int32")

    history = model.fit(features, labels, epochs=30, verbose=0)

    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
