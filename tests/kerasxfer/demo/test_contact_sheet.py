import numpy as np
import pytest
from PIL import Image

from kerasxfer.demo.contact_sheet import Answer, contact_sheet


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((20, 30, 3), 128, np.uint8)).save(path)
    return path


def test_a_right_answer_shows_its_probability_and_a_wrong_one_the_truth(image):
    assert Answer(image, "fish", "fish", 0.987).caption == "fish 99%"
    assert Answer(image, "fish", "key", 0.987).caption == "key, is fish"


@pytest.mark.parametrize(("answers", "rows"), [(1, 1), (3, 1), (4, 2)])
def test_the_sheet_has_as_many_rows_as_it_needs(image, answers, rows, tmp_path):
    path = contact_sheet([Answer(image, "a", "a", 1.0)] * answers, tmp_path / "sheet.png", columns=3, size=40)
    with Image.open(path) as sheet:
        assert sheet.size == (6 + 3 * (40 + 6), 6 + rows * (40 + 20 + 6))


def test_only_mistakes_are_framed(image, tmp_path):
    answers = [Answer(image, "a", "a", 1.0), Answer(image, "a", "b", 1.0)]
    with Image.open(contact_sheet(answers, tmp_path / "sheet.png", columns=2, size=40)) as sheet:
        pixels = np.asarray(sheet)
    right, wrong = pixels[4, 20], pixels[4, 46 + 26]
    assert right.tolist() == [255, 255, 255]
    assert wrong[0] > 150 > wrong[1]
    assert (pixels[26, 26] == 128).all()
