from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import average_precision_score

from kerasxfer.choosing.answers import Answers, Z


def of_right(right, groups=None):
    """Answers to images of class 1, right where `right` is."""
    right = np.asarray(right)
    return Answers(np.ones(len(right), int), np.stack([~right, right], axis=1).astype(float), groups)


def random_right(count, accuracy, seed=0):
    return np.random.default_rng(seed).random(count) < accuracy


def multi_label(count, noise, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((count, 3)) < (0.5, 0.3, 0.2)
    return labels, labels + noise * rng.normal(size=labels.shape)


def test_an_accuracy_has_wilsons_interval_of_2_4_standard_errors():
    value, low, high = astuple(of_right(np.arange(2000) < 1967).score)
    expected = binomtest(1967, 2000).proportion_ci(2 * norm.cdf(Z) - 1, method="wilson")
    assert value == 0.9835
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_copies_in_one_group_say_no_more_than_one_image():
    right = random_right(200, 0.9)
    alone = of_right(right).score
    copies = of_right(np.repeat(right, 5), np.repeat(np.arange(200), 5)).score
    assert astuple(copies) == pytest.approx(astuple(alone), abs=2e-3)
    assert copies.high - copies.low > 2 * (lambda s: s.high - s.low)(of_right(np.repeat(right, 5)).score)


def test_groups_without_a_mistake_count_as_one_image_each():
    assert of_right([True] * 40, np.arange(40) // 4).score == of_right([True] * 10).score


def test_ties_are_judged_by_mcnemar():
    one, other = np.ones(100, bool), np.ones(100, bool)
    other[:8] = False
    assert of_right(one).chance_of_difference(of_right(other)) == pytest.approx(2 * 0.5**8)
    assert of_right(one).chance_of_difference(of_right(one)) == 1


def test_a_difference_within_one_group_is_no_evidence():
    one, other = np.ones(100, bool), np.ones(100, bool)
    other[:8] = False
    groups = np.r_[np.zeros(8, int), np.arange(1, 93)]
    assert of_right(one, groups).chance_of_difference(of_right(other, groups)) == 1


def test_several_labels_are_scored_by_mean_average_precision():
    labels, given = multi_label(300, 0.7)
    few, many = Answers(labels[:60], given[:60]).score, Answers(labels, given).score
    assert many.value == pytest.approx(average_precision_score(labels, given))
    assert many.low < many.value < many.high
    assert many.high - many.low < few.high - few.low


def test_draws_of_images_weigh_them():
    labels, given = multi_label(80, 0.7)
    answers = Answers(labels, given)
    drawn = np.random.default_rng(0).multinomial(80, np.full(80, 1 / 80), 200)[7]
    expected = average_precision_score(labels, given, sample_weight=drawn)
    assert answers._resampled[7] == pytest.approx(expected)


def test_mean_average_precisions_are_compared_on_the_same_draws():
    labels, given = multi_label(300, 0.5)
    rng = np.random.default_rng(1)
    one, near, far = (Answers(labels, given + scale * rng.normal(size=given.shape)) for scale in (0.0, 0.02, 1.0))
    assert one.chance_of_difference(one) == 1
    assert one.chance_of_difference(near) > 0.05
    assert one.chance_of_difference(far) < 1e-4
