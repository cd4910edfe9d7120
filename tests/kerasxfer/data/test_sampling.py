"""Class-balanced epochs: what comes in them, and that caches and killed runs see the same."""

import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError
from PIL import Image

import kerasxfer
from kerasxfer.augmentation import BatchAugmentation
from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.data.sampling import balanced_order, repetitions
from kerasxfer.layers import Augmentation

LABELS = np.repeat(np.arange(3), [30, 3, 8]).astype("int32")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Ten dark images for each light one."""
    root = tmp_path_factory.mktemp("uneven")
    rng = np.random.default_rng(0)
    for name, low, count in (("dark", 0, 20), ("light", 60, 2)):
        (root / name).mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(low, low + 150, (32, 32, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


def test_every_class_has_as_many_rows_in_an_epoch():
    for epoch in range(4):
        counts = np.bincount(LABELS[balanced_order(LABELS, 5, epoch)])
        assert sum(counts) == len(LABELS)
        assert max(counts) - min(counts) <= 1


def test_the_rows_of_a_class_take_turns_over_the_epochs():
    seen = np.concatenate([balanced_order(LABELS, 5, epoch) for epoch in range(9)])
    for label in range(3):
        counts = np.bincount(seen, minlength=len(LABELS))[label == LABELS]
        assert max(counts) - min(counts) <= 1


def test_an_epoch_depends_on_seed_and_number_alone():
    np.testing.assert_array_equal(balanced_order(LABELS, 5, 7), balanced_order(LABELS, 5, 7))
    assert balanced_order(LABELS, 5, 7).tolist() != balanced_order(LABELS, 5, 8).tolist()
    assert balanced_order(LABELS, 5, 7).tolist() != balanced_order(LABELS, 6, 7).tolist()


def test_repetitions_count_what_came_before():
    assert repetitions(np.array([4, 1, 4, 4, 2, 1])).tolist() == [0, 0, 1, 2, 0, 1]


def test_a_data_set_gives_balanced_batches(uneven):
    data = kerasxfer.ImageFolder(uneven, (8, 8), 4, seed=1, sampling="balanced")
    labels = np.concatenate([batch[1] for batch in data])
    assert np.bincount(labels).tolist() == [11, 11]


def test_repetitions_of_an_image_are_augmented_each_in_its_own_way(uneven):
    augmentation = Augmentation(rotation_range=90)
    data = kerasxfer.ImageFolder(uneven, (8, 8), 22, seed=1, sampling="balanced", augmentation=augmentation)
    ((images, labels),) = list(data)
    light = images[labels == 1]
    assert len(np.unique(light.reshape(len(light), -1), axis=0)) == len(light) == 11


def test_training_from_the_cache_sees_the_same_batches(uneven, tmp_path):
    def trained(fit):
        keras.utils.set_random_seed(1)
        model = kerasxfer.image_classifier("DemoVGG", ["dark", "light"], (32, 32), dropout=0)
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        data = kerasxfer.ImageFolder(uneven, (32, 32), 4, seed=1, sampling="balanced")
        fit(model, data, epochs=3, shuffle=False, verbose=0)
        return model.layers[-1].get_weights()

    cached = trained(kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0).fit)
    for weights, expected in zip(cached, trained(keras.Model.fit), strict=True):
        np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "copies", "message"),
    [
        ({"batch_augmentation": BatchAugmentation(erasing=0.5)}, 0, "changes whole batches"),
        ({"sampling": "balanced", "augmentation": Augmentation(rotation_range=9)}, 2, "repetitions"),
    ],
    ids=["batches", "repetitions"],
)
def test_the_cache_refuses_what_it_cannot_hold(uneven, tmp_path, kwargs, copies, message):
    model = kerasxfer.image_classifier("DemoVGG", ["dark", "light"], (32, 32))
    model.compile("sgd", "sparse_categorical_crossentropy")
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", copies=copies, verbose=0)
    data = kerasxfer.ImageFolder(uneven, (32, 32), seed=1, **kwargs)
    with pytest.raises(CacheError, match=message):
        cache.fit(model, data)
    with pytest.raises(CacheError, match="Validation data must not be augmented"):
        cache.evaluate(model, data)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"sampling": "even"}, "must be None or 'balanced'"), ({"sampling": "balanced", "shuffle": False}, "shuffle")],
    ids=["unknown", "unshuffled"],
)
def test_wrong_arguments_are_named(uneven, kwargs, message):
    with pytest.raises(UsageError, match=message):
        kerasxfer.ImageFolder(uneven, (8, 8), **kwargs)
