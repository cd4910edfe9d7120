import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasxfer.smoothing import MovingAverage, smooth_curve

# A machine with other work to do is no failure of the code.

finite = st.floats(-1e6, 1e6)
factors = st.floats(0, 0.99)


def chollets_smooth_curve(points, factor):
    """The function of the tutorials, word for word."""
    smoothed_points = []
    for point in points:
        if smoothed_points:
            previous = smoothed_points[-1]
            smoothed_points.append(previous * factor + point * (1 - factor))
        else:
            smoothed_points.append(point)
    return smoothed_points


@given(st.lists(finite), factors)
def test_equals_the_tutorials_function(points, factor):
    assert smooth_curve(points, factor) == pytest.approx(chollets_smooth_curve(points, factor), rel=1e-12, abs=1e-12)


@given(st.lists(finite, min_size=1), factors)
def test_debiased_is_adams_corrected_first_moment(points, factor):
    moment = 0.0
    for t, point in enumerate(points, start=1):
        moment = factor * moment + (1 - factor) * point
        expected = moment / (1 - factor**t)
    assert smooth_curve(points, factor, debias=True)[-1] == pytest.approx(expected, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("debias", [False, True])
@given(points=st.lists(finite | st.sampled_from([math.nan, math.inf, -math.inf, None])))
def test_lost_points_leave_the_average_as_if_they_had_not_been(points, debias):
    average = MovingAverage(0.8, debias)
    for point in points:
        average.update(point)
    there = [point for point in points if point is not None and math.isfinite(point)]
    assert average.value == (smooth_curve(there, 0.8, debias)[-1] if there else None)


def test_a_constant_stays_itself_when_debiased():
    assert smooth_curve([3.0] * 5, 0.9, debias=True) == pytest.approx([3.0] * 5, rel=1e-15)


@pytest.mark.parametrize("factor", [1.0, -0.1, math.nan])
def test_refuses_a_factor_out_of_range(factor):
    with pytest.raises(ValueError, match=r"`factor` must be at least 0 and below 1\. Received: factor="):
        MovingAverage(factor)
