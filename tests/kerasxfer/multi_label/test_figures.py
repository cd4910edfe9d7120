"""Figures of several labels, against scikit-learn, and what their intervals are good for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from kerasxfer.multi_label.figures import evaluate_labels, mean_average_precision
from kerasxfer.multi_label.resampling import Ranked, resamples

NAMES = ("cat", "dog", "outdoor")


def drawn(images, seed=0, signal=1.5):
    rng = np.random.default_rng(seed)
    targets = rng.random((images, 3)) < (0.5, 0.3, 0.15)
    return targets, 1 / (1 + np.exp(-(signal * (2 * targets - 1) + rng.normal(0, 1, (images, 3)))))


def test_every_figure_is_scikit_learns():
    targets, probabilities = drawn(300)
    thresholds = (0.4, 0.5, 0.8)
    figures = evaluate_labels(targets, probabilities, NAMES, thresholds)
    said = probabilities >= thresholds
    for column, each in enumerate(figures.classes):
        truth, scores = targets[:, column], probabilities[:, column]
        assert each.average_precision.value == pytest.approx(average_precision_score(truth, scores))
        assert each.auc.value == pytest.approx(roc_auc_score(truth, scores))
        assert each.f1.value == pytest.approx(f1_score(truth, said[:, column]))
    assert figures.mean_average_precision.value == pytest.approx(average_precision_score(targets, probabilities))
    assert figures.macro_auc.value == pytest.approx(roc_auc_score(targets, probabilities))
    assert figures.macro_f1.value == pytest.approx(f1_score(targets, said, average="macro"))
    assert figures.micro_f1.value == pytest.approx(f1_score(targets, said, average="micro"))
    assert figures.all_right.value == pytest.approx((targets == said).all(axis=1).mean())
    assert figures.mean_average_precision == mean_average_precision(targets, probabilities)


@settings(max_examples=60)
@given(st.data())
def test_weights_are_repetitions_and_ties_are_one_step(data):
    images = data.draw(st.integers(2, 12))
    scores = data.draw(hnp.arrays(np.float64, images, elements=st.sampled_from((0.1, 0.5, 0.5001, 0.9))))
    positive = data.draw(hnp.arrays(bool, images))
    weights = data.draw(hnp.arrays(np.int64, images, elements=st.integers(0, 3)))
    truth, repeated = np.repeat(positive, weights), np.repeat(scores, weights)
    ranked = Ranked.of(positive, scores)
    found, auc = ranked.average_precision(weights[None].astype(float))[0], ranked.auc(weights[None].astype(float))[0]
    if truth.any():
        assert found == pytest.approx(average_precision_score(truth, repeated))
    else:
        assert np.isnan(found)
    if truth.any() and not truth.all():
        assert auc == pytest.approx(roc_auc_score(truth, repeated))
    else:
        assert np.isnan(auc)


def test_an_interval_holds_the_truth_nineteen_times_in_twenty():
    targets, probabilities = drawn(100_000, seed=1)
    truth = average_precision_score(targets, probabilities)
    intervals = [mean_average_precision(*drawn(200, seed=seed)) for seed in range(60)]
    held = sum(each.low <= truth <= each.high for each in intervals)
    assert held >= 51  # of 57 to be expected; fewer in one case of two hundred
    assert all(each.low <= each.value <= each.high for each in intervals)


def test_a_class_that_no_image_has_is_left_out_of_the_means():
    targets, probabilities = drawn(100)
    targets[:, 1] = False
    targets[:, 2] = True
    figures = evaluate_labels(targets, probabilities, NAMES, (0.5,) * 3)
    cat, dog, outdoor = figures.classes
    assert (dog.average_precision, dog.auc, dog.f1, dog.recall) == (None, None, None, None)
    assert outdoor.auc is None
    assert figures.macro_auc.value == cat.auc.value
    assert figures.mean_average_precision.value == pytest.approx(
        (cat.average_precision.value + outdoor.average_precision.value) / 2
    )


def test_a_resample_draws_as_many_images_as_there_are():
    blocks = list(resamples(50, count=7))
    assert sum(map(len, blocks)) == 7
    assert all((block.sum(axis=1) == 50).all() for block in blocks)
