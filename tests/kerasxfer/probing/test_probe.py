"""Linear heads out of fold, on features whose classes are known."""

import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError

from kerasxfer.probing.probe import divided, held_out, log_loss, out_of_fold, out_of_folds

pytest.importorskip("sklearn")


def blobs(count=300, classes=3, spread=1.0, seed=0):
    """Features of classes around corners of a cube, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    corners = 3 * np.eye(classes, 8)
    return (corners[labels] + spread * random.normal(size=(count, 8))).astype("float32"), labels


def test_answers_of_images_that_no_head_has_seen():
    features, labels = blobs()
    answers = out_of_fold(features, labels, 3)
    assert np.allclose(answers.probabilities.sum(axis=1), 1)
    assert (answers.probabilities.argmax(axis=1) == labels).mean() > 0.9
    noise = np.random.default_rng(1).normal(size=(300, 200)).astype("float32")
    chance = out_of_fold(noise, labels, 3).probabilities.argmax(axis=1) == labels
    assert chance.mean() < 0.45, "a head has seen what it answers to"


def test_scale_and_constant_dimensions_change_nothing():
    features, labels = blobs()
    other = np.hstack([features * 1000 - 7, np.full((300, 1), 5, "float32")])
    assert np.allclose(
        out_of_fold(features, labels, 3).probabilities, out_of_fold(other, labels, 3).probabilities, atol=1e-3
    )


def test_wrong_labels_are_regularised_more():
    features, labels = blobs(spread=0.5)
    wrong = labels.copy()
    wrong[::8] = (wrong[::8] + 1) % 3
    assert out_of_fold(features, wrong, 3).strength < out_of_fold(features, labels, 3).strength


def test_images_of_several_labels():
    features, labels = blobs()
    several = np.stack([labels == 0, labels != 2, np.zeros(300, bool)], axis=1)
    answers = out_of_fold(features, several, 3).probabilities
    assert ((answers > 0.5) == several).mean() > 0.9
    assert log_loss(answers, several) < 0.3


def test_a_class_of_a_single_image():
    features, labels = blobs()
    labels = labels.copy()
    labels[0] = 3
    assert out_of_fold(features, labels, 4).probabilities.shape == (300, 4)


def test_other_images_are_answered_to():
    features, labels = blobs()
    more, truth = blobs(seed=1)
    assert (held_out(features, labels, more, 3, 0.01).argmax(axis=1) == truth).mean() > 0.9


def test_folds_have_even_classes_and_whole_groups():
    labels = np.repeat([0, 1], [90, 10])
    fold = divided(labels, 5)
    assert [int((labels[fold == k] == 1).sum()) for k in range(5)] == [2] * 5
    groups = np.arange(100) // 2
    fold = divided(labels, 5, groups)
    assert (fold[::2] == fold[1::2]).all()
    assert np.bincount(fold).tolist() == [20] * 5
    assert (divided(labels, 5, groups, seed=1) != fold).any()
    assert np.array_equal(divided(labels, 5, np.arange(100)), divided(labels, 5)), "groups of one are no groups"


def test_folds_of_uneven_groups_have_even_classes():
    random = np.random.default_rng(0)
    sizes = random.permutation(np.repeat([1, 2, 40], [40, 40, 10]))
    groups, labels = np.repeat(np.arange(90), sizes), np.repeat(np.arange(90) % 3, sizes)
    fold = divided(labels, 5, groups)
    for label in range(3):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 40, "one large group at most"


def test_groups_of_classes_with_fewer_images_than_folds():
    fold = divided(np.arange(12) // 2, 5, np.arange(12) // 2)
    assert len(np.unique(fold)) == 5
    assert (fold[::2] == fold[1::2]).all()


@pytest.mark.parametrize("pairs", [1, 3, 40])
def test_images_without_copies_even_out_what_groups_have_made_uneven(pairs):
    labels = np.random.default_rng(0).integers(0, 2, 200)
    groups = np.concatenate([np.repeat(np.arange(pairs), 2), np.arange(pairs, 200 - pairs)])
    fold = divided(labels, 5, groups)
    assert (fold[0 : 2 * pairs : 2] == fold[1 : 2 * pairs : 2]).all()
    for label in range(2):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_a_fold_for_each_image():
    labels = np.arange(7) % 2
    assert sorted(divided(labels, 7)) == list(range(7))


def test_more_folds_than_images():
    with pytest.raises(UsageError, match=r"folds.*3\. Received: folds=5"):
        divided(np.arange(3), 5)


def test_the_mean_over_divisions_is_nearer_to_the_truth():
    features, labels = blobs(spread=3.0)
    strength = out_of_fold(features, labels, 3).strength
    single = [out_of_fold(features, labels, 3, seed=seed, strength=strength).probabilities for seed in range(3)]
    mean = out_of_folds(features, labels, 3)
    np.testing.assert_allclose(mean.probabilities, np.mean(single, axis=0), atol=1e-3)
    assert log_loss(mean.probabilities, labels) < np.mean([log_loss(each, labels) for each in single])


def test_many_rows_choose_on_some(monkeypatch):
    monkeypatch.setattr("kerasxfer.probing.probe._SEARCHED", 100)
    features, labels = blobs()
    answers = out_of_fold(features, labels, 3)
    assert (answers.probabilities.argmax(axis=1) == labels).mean() > 0.9
