"""The probability from which a class fits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kerasxfer_serving.errors import UsageError
from sklearn.metrics import f1_score

from kerasxfer.multi_label.thresholds import choose_thresholds, resolve_thresholds

NAMES = ("cat", "dog")
SCORES = st.floats(0, 1, width=32)


@settings(max_examples=100)
@given(st.data())
def test_no_other_threshold_gives_a_better_f1(data):
    images = data.draw(st.integers(1, 12))
    scores = data.draw(hnp.arrays(np.float32, (images, 1), elements=SCORES)).astype(np.float64)
    positive = data.draw(hnp.arrays(bool, (images, 1)))
    (threshold,) = choose_thresholds(positive, scores)
    assert 0 <= threshold <= 1
    if not positive.any():
        assert threshold == 0.5
        return
    best = max(f1_score(positive, scores >= other, zero_division=0) for other in (*scores.ravel(), 2))
    assert f1_score(positive, scores >= threshold, zero_division=0) == pytest.approx(best)


def test_each_class_has_its_own():
    probabilities = np.array([[0.9, 0.08], [0.8, 0.06], [0.3, 0.02], [0.1, 0.01]])
    assert choose_thresholds(np.array([[1, 1], [1, 1], [0, 0], [0, 0]]), probabilities) == (0.55, 0.04)


@pytest.mark.parametrize(
    ("given", "own", "expected"),
    [
        (None, None, (0.5, 0.5)),
        (None, (0.2, 0.3), (0.2, 0.3)),
        (None, (0.2, 0.3, 0.4), (0.5, 0.5)),
        (0.4, (0.2, 0.3), (0.4, 0.4)),
        ({"dog": 0.9}, (0.2, 0.3), (0.2, 0.9)),
        ([0.1, 1], None, (0.1, 1.0)),
    ],
    ids=str,
)
def test_what_is_given_goes_before_what_was_chosen(given, own, expected):
    assert resolve_thresholds(given, own, NAMES) == expected


@pytest.mark.parametrize("given", [2, [0.5], [0.5, -1], {"cow": 0.5}, {"cat": "x"}], ids=str)
def test_what_is_no_threshold_is_refused(given):
    with pytest.raises(UsageError, match="hreshold"):
        resolve_thresholds(given, None, NAMES)
