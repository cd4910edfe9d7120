import numpy as np
import pytest

from kerasxfer.choosing.learning_curve import learning_curve


def labels(count):
    return np.arange(count) % 2


def test_a_power_law_is_continued():
    curve = learning_curve(lambda rows: 2 * len(rows) ** -0.5, 2 * 1600**-0.5, labels(1600))
    assert curve.images == (200, 400, 800, 1600)
    assert curve.at_twice == pytest.approx(2 * 3200**-0.5)


def test_an_error_that_grows_is_not_continued():
    curve = learning_curve(lambda rows: len(rows) / 1e4, 0.16, labels(1600))
    assert curve.at_twice <= 0.16


def test_parts_have_every_class_and_whole_groups():
    seen = []
    groups = np.arange(1600) // 4
    learning_curve(lambda rows: seen.append(rows) or 0.1, 0.05, labels(1600), groups)
    assert [len(rows) for rows in seen] == [800] * 2 + [400] * 3 + [200] * 4
    for rows in seen:
        assert np.all(np.unique(groups[rows], return_counts=True)[1] == 4)
        assert labels(1600)[rows].mean() == 0.5
    assert not np.array_equal(seen[0], seen[1])


def test_parts_of_too_few_groups_are_no_points():
    sizes = []
    learning_curve(lambda rows: sizes.append(len(rows)) or 0.1, 0.05, labels(1600), np.arange(1600) // 40)
    assert set(sizes) == {800, 400}


@pytest.mark.parametrize(("count", "whole"), [(60, 0.1), (1600, 0.0)], ids=["few images", "no mistakes"])
def test_there_is_no_curve_of(count, whole):
    assert learning_curve(lambda rows: 0.1, whole, labels(count)) is None
