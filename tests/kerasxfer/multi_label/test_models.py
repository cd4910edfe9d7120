"""The head of a multi-label classifier, and the file that it is kept in."""

import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError

import kerasxfer
from kerasxfer.keras_files import load_model
from kerasxfer.layers import ClassifierHead
from kerasxfer.layers.classifier_head import task_of


def test_each_class_has_a_sigmoid_of_its_own(model):
    pixels = np.zeros((2, 16, 16, 3), np.uint8)
    pixels[0, ..., 0] = 255
    answers = model.predict(pixels, verbose=0)
    low, high = 1 / (1 + np.exp(4)), 1 / (1 + np.exp(-4))
    np.testing.assert_allclose(answers, [[low, low, high], [low, low, low]], rtol=1e-4)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_task_travels_in_the_file(model, tmp_path, suffix):
    model.save(tmp_path / f"model{suffix}")
    again = load_model(tmp_path / f"model{suffix}")
    assert task_of(again) == "multi_label"
    pixels = np.full((1, 16, 16, 3), 99, np.uint8)
    np.testing.assert_allclose(again.predict(pixels, verbose=0), model.predict(pixels, verbose=0), rtol=1e-5)


def test_a_model_of_one_label_says_so():
    head = ClassifierHead(3)
    images = keras.Input((4, 4, 2))
    assert task_of(keras.Model(images, head(images))) == "single_label"
    assert task_of(keras.Model(images, images)) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 3, "activation": "softmax"}, "one sigmoid per class"),
        ({"classes": 1}, "2 or more"),
        ({"classes": 2, "class_names": ("a|b", "c")}, "between labels"),
    ],
    ids=str,
)
def test_what_no_multi_label_head_is_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        ClassifierHead(multi_label=True, **arguments)


def test_more_than_two_sigmoids_are_offered_what_they_may_mean():
    with pytest.raises(UsageError, match="multi_label=True"):
        ClassifierHead(3, activation="sigmoid")


def test_it_learns_from_a_table(table, model):
    images = kerasxfer.ImageTable(table, (16, 16), 8, label_mode="multi_hot", seed=1)
    model.get_layer("head").set_weights([np.zeros((3, 3)), np.zeros(3)])
    model.compile(keras.optimizers.Adam(0.3), "binary_crossentropy")
    history = model.fit(images, epochs=8, shuffle=False, verbose=0).history["loss"]
    assert history[-1] < 0.4 * history[0]
