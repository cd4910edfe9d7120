from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from kerasxfer.estimate import Estimate
from kerasxfer.report.metrics import chance_of_difference, evaluate

#                      right         right         wrong, sure   right, unsure  wrong
PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.97, 0.03], [0.45, 0.55], [0.4, 0.6]])
LABELS = np.array([0, 1, 1, 1, 0])


@pytest.fixture
def evaluation():
    return evaluate(LABELS, PROBABILITIES, ["cats", "dogs"])


@given(st.integers(1, 2000), st.data())
def test_wilson_interval(total, data):
    part = data.draw(st.integers(0, total))
    expected = binomtest(part, total).proportion_ci(method="wilson")
    assert astuple(Estimate.of_share(part, total)) == pytest.approx(
        (part / total, expected.low, expected.high), abs=1e-12
    )


def test_accuracy_and_confusion(evaluation):
    assert evaluation.accuracy.value == 3 / 5
    assert evaluation.confusion.tolist() == [[1, 1], [1, 2]]


def test_figures_of_each_class(evaluation):
    cats, dogs = evaluation.classes
    assert (cats.name, cats.precision, cats.f1, cats.images) == ("cats", 1 / 2, 1 / 2, 2)
    assert (dogs.precision, dogs.f1, dogs.images) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)
    assert cats.recall.value == 1 / 2
    assert evaluation.macro_f1 == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_balanced_accuracy_is_the_mean_recall_between_its_bounds(evaluation):
    balanced = evaluation.balanced_accuracy
    assert balanced.value == pytest.approx((1 / 2 + 2 / 3) / 2)
    # Of independent means, the variance of the mean is a quarter of the sum.
    recalls = [each.recall for each in evaluation.classes]
    below = [each.value - each.low for each in recalls]
    assert balanced.value - balanced.low == pytest.approx(np.sqrt(below[0] ** 2 + below[1] ** 2) / 2)
    assert balanced.value < balanced.high < 1


@pytest.mark.parametrize(("rare", "uneven"), [(2, True), (3, False)], ids=["uneven", "even"])
def test_classes_are_uneven_from_half_as_many_images_again(rare, uneven):
    labels = np.array([0] * 4 + [1] * rare)
    assert evaluate(labels, np.full((len(labels), 2), 0.5), ["a", "b"]).uneven is uneven


def test_log_loss(evaluation):
    assert evaluation.log_loss == pytest.approx(-np.log([0.9, 0.8, 0.03, 0.55, 0.4]).mean())


def test_mistakes_come_most_confident_first(evaluation):
    assert evaluation.mistakes.tolist() == [2, 4]


def test_uncertain_ones_come_least_margin_first(evaluation):
    assert evaluation.uncertain.tolist() == [3, 4, 1, 0, 2]


def test_calibration_error_is_the_gap_weighted_by_images(evaluation):
    # Bins: 0.55 and 0.6 (one of two right), 0.8 (right), 0.9 (right), 0.97 (wrong).
    gaps = [2 * abs(0.5 - 0.575), abs(1 - 0.8), abs(1 - 0.9), abs(0 - 0.97)]
    assert evaluation.calibration_error == pytest.approx(sum(gaps) / 5)
    assert [b.images for b in evaluation.bins] == [2, 1, 1, 1]


def test_a_class_without_images_has_no_recall_and_does_not_count():
    evaluation = evaluate(np.array([0, 1]), np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]), ["a", "b", "c"])
    assert evaluation.classes[2].recall is None
    assert evaluation.macro_f1 == 1.0


def test_float32_sums_raise_no_warning(recwarn):
    probabilities = np.array([[0.3333333, 0.6666665]], "float32")
    evaluate(np.array([1]), probabilities, ["a", "b"])
    assert not recwarn.list


def test_mcnemar_counts_only_where_the_models_differ():
    one = np.array([True] * 9 + [False] + [True] * 50)
    other = np.array([False] * 9 + [True] + [True] * 50)
    assert chance_of_difference(one, other) == pytest.approx(2 * (1 + 10) / 2**10)
    assert chance_of_difference(one, one) == 1.0
