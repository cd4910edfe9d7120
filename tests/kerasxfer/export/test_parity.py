import numpy as np
import pytest

from kerasxfer.estimate import Estimate
from kerasxfer.export.parity import (
    GATES,
    Gate,
    class_columns,
    compare_answers,
    power_of_ten_above,
)

SOURCE = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def parity(file, labels=None):
    return compare_answers(SOURCE, np.array(file), NAMES, ("cats", "dogs"), labels)


def test_equal_answers_pass_every_gate():
    result = parity(SOURCE, [0, 1, 1, 1])
    assert (result.pictures, result.max_difference, result.same_top_class) == (4, 0.0, 1.0)
    assert result.source_accuracy == result.file_accuracy == Estimate.of_share(3, 4)
    assert result.spread == pytest.approx(0.7)
    assert [result.failure(gate) for gate in GATES.values()] == [None, None, None]


def test_a_difference_is_told_with_image_classes_and_size():
    moved = SOURCE.copy()
    moved[1] = [0.55, 0.45]
    result = parity(moved)
    assert result.max_difference == pytest.approx(0.15)
    assert result.mean_difference == pytest.approx(0.15 / 4)
    assert result.same_top_class == 0.75
    failure = result.failure(GATES["fp32"])
    for expected in ("`probabilities`", "0.15", "1e-05", "`b.jpg`", "dogs 0.600000", "cats 0.550000"):
        assert expected in failure
    assert "75.00% of 4 images" in result.failure(GATES["fp16"])


def test_the_fp32_gate_lies_at_1e_5():
    near, far = SOURCE.copy(), SOURCE.copy()
    near[0] += [-9e-6, 9e-6]
    far[0] += [-1.1e-5, 1.1e-5]
    assert parity(near).failure(GATES["fp32"]) is None
    assert parity(far).failure(GATES["fp32"])


def test_worst_images_come_first():
    moved = SOURCE + np.array([[0.01], [0.03], [0.0], [-0.02]]) * [1, -1]
    assert [row["picture"] for row in parity(moved).worst] == ["b.jpg", "d.jpg", "a.jpg", "c.jpg"]


@pytest.mark.parametrize("gate", [GATES["fp32"], GATES["fp16"]])
def test_an_answer_that_is_no_number_fails(gate):
    broken = SOURCE.copy()
    broken[2] = np.nan
    result = parity(broken)
    assert result.max_difference == np.inf
    assert "`c.jpg`" in result.failure(gate)


def test_a_tie_in_the_source_may_fall_either_way():
    tie = np.array([[0.5, 0.5]])
    result = compare_answers(tie, tie + np.array([[-1e-7, 1e-7]]), ["tie.jpg"], ("cats", "dogs"))
    assert result.same_top_class == 1.0


def test_int8_may_lose_one_point_of_accuracy_and_no_more():
    source = np.tile([[0.9, 0.1]], (200, 1))
    names, labels = [str(number) for number in range(200)], np.zeros(200, int)

    def losing(count):
        file = source.copy()
        file[:count] = [0.1, 0.9]
        return compare_answers(source, file, names, ("cats", "dogs"), labels)

    assert losing(2).failure(GATES["int8"]) is None
    assert "from 100.00%" in losing(3).failure(GATES["int8"])
    assert losing(3).failure(Gate(score_loss=0.02)) is None


def test_a_sigmoid_column_is_the_second_class():
    assert class_columns(np.array([[0.25]])).tolist() == [[0.75, 0.25]]
    one = SOURCE[:, 1:]
    result = compare_answers(one, one, NAMES, ("cats", "dogs"), [0, 1, 1, 0])
    assert result.source_accuracy.value == 1.0


def test_accuracy_has_wilsons_interval():
    accuracy = Estimate.of_share(90, 100)
    assert (accuracy.value, round(accuracy.low, 4), round(accuracy.high, 4)) == (0.9, 0.8256, 0.9448)
    assert Estimate.of_share(10, 10).high == 1.0
    assert Estimate.of_share(0, 10).low == 0.0


@pytest.mark.parametrize(("value", "power"), [(3e-7, 1e-6), (1e-6, 1e-6), (1.1e-6, 1e-5), (0.0, 0.0), (0.5, 1.0)])
def test_recorded_differences_are_powers_of_ten(value, power):
    assert power_of_ten_above(value) == power


def test_the_summary_holds_what_repeats():
    assert parity(SOURCE + np.array([[1e-7, -1e-7]]), [0, 1, 1, 1]).summary() == {
        "pictures": 4,
        "max_difference_below": 1e-6,
        "same_top_class": 1.0,
        "source_accuracy": {"value": 0.75, "low": 0.300642, "high": 0.954413},
        "file_accuracy": {"value": 0.75, "low": 0.300642, "high": 0.954413},
    }
