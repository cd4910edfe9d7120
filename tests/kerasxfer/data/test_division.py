"""Property tests: no group on both sides, and the classes as even as the groups allow."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kerasxfer_serving.errors import KerasxferError, UsageError

from kerasxfer.data.division import Division, classes_of, divide, divide_groups, groups_by_pattern
from kerasxfer.data.image_rows import ImageRows


def rows_of(labels, groups=None, classes=3):
    labels = np.asarray(labels)
    paths = [f"{number}.png" for number in range(len(labels))]
    groups = None if groups is None else np.asarray(groups)
    return ImageRows(Path(), paths, labels, [f"class {number}" for number in range(classes)], groups=groups)


@st.composite
def grouped_rows(draw):
    """Images of up to three classes in up to forty groups, whose images may be of different classes."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=2, max_size=40))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = draw(st.lists(st.integers(0, 2), min_size=len(groups), max_size=len(groups)))
    labels[:2] = [0, 0]
    shuffled = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(groups))
    return rows_of(np.array(labels)[shuffled], groups[shuffled])


@settings(max_examples=60)
@given(rows=grouped_rows(), fraction=st.floats(0.05, 0.6), seed=st.integers(0, 2**40))
def test_no_group_is_on_both_sides_and_the_draw_can_be_repeated(rows, fraction, seed):
    chosen = divide(rows, fraction, seed)

    assert not set(rows.groups[chosen]) & set(rows.groups[~chosen])
    np.testing.assert_array_equal(chosen, divide(rows, fraction, seed))


@settings(max_examples=40)
@given(rows=grouped_rows(), seed=st.integers(0, 99))
def test_a_group_is_in_one_part_at_most(rows, seed):
    try:
        parts = divide_groups(rows, [0.5, 0.25, 0.25], seed)
    except KerasxferError:  # too few groups for three parts
        assume(False)
    assert all(len(set(parts[rows.groups == group])) == 1 for group in np.unique(rows.groups))
    assert set(parts) <= {0, 1, 2}


@settings(max_examples=30)
@given(
    fraction=st.sampled_from([0.1, 0.15, 0.2, 0.25, 0.4, 0.5]),
    images=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_groups_of_one_size_divide_evenly_in_every_class(fraction, images, seed):
    labels = np.repeat(np.arange(3), [40 * images, 20 * images, 20 * images])
    rows = rows_of(labels, np.arange(len(labels)) // images)

    division = Division.of(rows, divide(rows, fraction, seed))

    assert all(abs(share - fraction) <= 0.05 + 1e-9 for share in division.shares.values())


@settings(max_examples=30)
@given(labels=st.lists(st.integers(0, 2), min_size=4, max_size=80), fraction=st.floats(0.1, 0.5))
def test_without_groups_each_class_of_two_is_on_both_sides(labels, fraction):
    chosen = divide(rows_of(labels), fraction, 0)

    for label in set(labels):
        members = chosen[np.array(labels) == label]
        assert len(members) == 1 or 0 < members.sum() < len(members)


def test_the_rows_order_decides_nothing():
    names = [f"patient {number % 15}" for number in range(60)]
    labels = np.arange(60) % 15 % 2
    order = np.random.default_rng(0).permutation(60)
    paths = [f"{name}/{number}.png" for number, name in enumerate(names)]
    shuffled = [paths[row] for row in order]

    chosen = divide(rows_of(labels, groups_by_pattern(paths, r"patient \d+")), 0.2, 1)
    again = divide(rows_of(labels[order], groups_by_pattern(shuffled, r"patient \d+")), 0.2, 1)

    assert {path for path, kept in zip(paths, chosen, strict=True) if kept} == {
        path for path, kept in zip(shuffled, again, strict=True) if kept
    }


def test_images_of_several_labels_are_balanced_by_their_rarest():
    labels = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]], bool)

    assert classes_of(labels).tolist() == [2, 0, 1, -1, 2]


def test_a_division_says_how_even_it_is():
    rows = rows_of([0] * 10 + [1] * 20, np.arange(30) // 2, classes=3)
    chosen = np.zeros(30, bool)
    chosen[[0, 1, 10, 11, 12, 13]] = True

    text = str(Division.of(rows, chosen))

    assert text == "6 of 30 images (20.0%), 3 of 15 groups; of each class 20.0% (class 0) to 20.0% (class 1)"


def test_a_division_is_one_line_whatever_its_classes_are_called():
    text = str(Division((1, 4), {"a\nb": 0.0, "\x1b[2J": 0.5}))
    assert text == r"1 of 4 images (25.0%); of each class 0.0% (a\nb) to 50.0% (\x1b[2J)"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [(r"^(\w)\w*/", [0, 0, 1]), (r"(?P<x>\w)_(?P<group>\d)", [0, 1, 0]), (r"\w+/", [0, 1, 2])],
)
def test_groups_by_pattern(pattern, expected):
    assert groups_by_pattern(["ant/a_1.png", "ape/b_2.png", "bee/c_1.png"], pattern).tolist() == expected


def test_patterns_that_do_not_fit():
    with pytest.raises(UsageError, match=r"does not match 1 of 2, as 'b.png'"):
        groups_by_pattern(["a1.png", "b.png"], r"a(\d)")
    with pytest.raises(UsageError, match="must be a regular expression"):
        groups_by_pattern(["a"], "(")


def test_one_group_cannot_be_divided():
    with pytest.raises(KerasxferError, match="at least two groups"):
        divide(rows_of([0, 0, 1, 1], [0, 0, 0, 0]), 0.5, 0)
