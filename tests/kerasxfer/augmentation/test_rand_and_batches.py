"""RandAugment, erasing, MixUp and CutMix: what they do, and that a seed decides it."""

import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError
from PIL import Image

import kerasxfer
from kerasxfer.augmentation import BatchAugmentation, RandAugment

needs_cutmix = pytest.mark.skipif(not hasattr(keras.layers, "CutMix"), reason="this Keras has no CutMix")
needs_erasing = pytest.mark.skipif(not hasattr(keras.layers, "RandomErasing"), reason="this Keras has no RandomErasing")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (16, 24, 20, 3), dtype="uint8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir()
        for i in range(4):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


def test_rand_augment_depends_on_seed_and_row_alone(images):
    layer = RandAugment()
    whole = layer.augment(images, (3, 1))
    assert whole.shape == images.shape
    assert whole.dtype == "float32"
    np.testing.assert_array_equal(layer.augment(images[5:7], (3, 1), rows=[5, 6]), whole[5:7])
    assert not np.array_equal(layer.augment(images, (3, 2)), whole)


def test_rand_augment_gives_each_image_its_own_operations(images):
    same = np.repeat(images[:1], 30, axis=0)
    changed = RandAugment().augment(same, 1)
    assert len(np.unique(changed.reshape(30, -1), axis=0)) > 15


def test_a_stronger_rand_augment_changes_more(images):
    def change(strength):
        changed = RandAugment(strength, horizontal_flip=False).augment(images, 1)
        return np.abs(changed - images.astype("float32")).mean()

    assert change(0.1) < change(0.9)


@pytest.mark.parametrize("kwargs", [{"strength": 1.5}, {"operations": 0}], ids=["strength", "operations"])
def test_rand_augment_names_a_wrong_argument(kwargs):
    with pytest.raises(UsageError, match=f"`{next(iter(kwargs))}` must be"):
        RandAugment(**kwargs)


@pytest.mark.parametrize(
    "kind",
    ["mixup", pytest.param("cutmix", marks=needs_cutmix), pytest.param("erasing", marks=needs_erasing)],
)
def test_a_batch_is_changed_by_its_seed_alone(images, kind):
    targets = np.eye(16, dtype="float32")
    augmentation = BatchAugmentation(**{kind: 1.0})
    first, again, other = (augmentation.augment(images, targets, (1, 0, index)) for index in (4, 4, 5))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert first[0].dtype == "float32"


def test_mixup_weighs_targets_as_images(images):
    targets = np.eye(16, dtype="float32")
    mixed, shares = BatchAugmentation(mixup=1.0).augment(images, targets, (1, 0, 4))
    expected = np.einsum("nm,mhwc->nhwc", shares, images.astype("float32"))
    np.testing.assert_allclose(mixed, expected, atol=1e-2)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)


@needs_cutmix
def test_cutmix_weighs_targets_by_the_area(images):
    plain = np.repeat(np.arange(16.0).reshape(16, 1, 1, 1), 3, axis=3) * np.ones((16, 50, 50, 3))
    mixed, shares = BatchAugmentation(cutmix=1.0).augment(plain, np.eye(16, dtype="float32"), (1, 0, 4))
    assert set(np.unique(mixed)) <= set(range(16))
    own = np.mean(mixed == plain, axis=(1, 2, 3))
    np.testing.assert_allclose(np.diag(shares), own, atol=0.05)


@needs_cutmix
def test_with_both_a_batch_gets_either(images):
    both = BatchAugmentation(mixup=1.0, cutmix=1.0)
    plain = np.repeat(np.arange(16.0).reshape(16, 1, 1, 1), 3, axis=3) * np.ones((16, 8, 8, 3))
    batches = [both.augment(plain, np.eye(16, dtype="float32"), (1, 0, index))[0] for index in range(12)]
    whole = [bool(np.all(batch == np.rint(batch))) for batch in batches]
    assert 0 < sum(whole) < 12


@pytest.mark.parametrize("value", [-0.1, 1.5, True, "x"], ids=str)
def test_a_wrong_share_is_named(value):
    with pytest.raises(UsageError, match="`mixup` must be a number from 0 to 1"):
        BatchAugmentation(mixup=value)


def test_a_layer_that_this_keras_lacks_is_named(monkeypatch):
    monkeypatch.delattr(keras.layers, "MixUp")
    with pytest.raises(UsageError, match=r"needs `keras\.layers\.MixUp`, which Keras .* does not have"):
        BatchAugmentation(mixup=0.2)
    BatchAugmentation()


def test_a_data_set_mixes_each_batch_of_each_epoch_anew(folder):
    mixing = BatchAugmentation(mixup=0.5)
    data = kerasxfer.ImageFolder(folder, (8, 8), 4, label_mode="categorical", seed=1, batch_augmentation=mixing)
    again = kerasxfer.ImageFolder(folder, (8, 8), 4, label_mode="categorical", seed=1, batch_augmentation=mixing)
    again.set_epoch(1)
    first = [data[index] for index in range(2)]
    data.set_epoch(1)
    second = [data[index] for index in range(2)]
    for batch, expected in zip((again[0], again[1]), second, strict=True):
        np.testing.assert_array_equal(batch[0], expected[0])
        np.testing.assert_array_equal(batch[1], expected[1])
    assert not np.array_equal(first[0][0], second[0][0])


def test_what_cannot_be_mixed_is_refused(folder):
    with pytest.raises(UsageError, match="label_mode='categorical'"):
        kerasxfer.ImageFolder(folder, (8, 8), batch_augmentation=BatchAugmentation(mixup=0.5))
    table = {"image": ["a/0.png", "b/0.png"], "label": ["a", "b"], "weight": [1.0, 2.0]}
    kwargs = {"root": folder, "label_mode": "categorical", "weight_column": "weight"}
    with pytest.raises(UsageError, match="leave out `weight_column`"):
        kerasxfer.ImageTable(table, (8, 8), batch_augmentation=BatchAugmentation(mixup=0.5), **kwargs)
