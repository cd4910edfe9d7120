import numpy as np
import pytest
from kerasxfer_serving.images import ImagePolicy
from PIL import Image

from kerasxfer.export.errors import ExportError
from kerasxfer.export.proof import choose_samples

POLICY = ImagePolicy()


@pytest.fixture
def folder(tmp_path):
    for number in range(9):
        path = tmp_path / f"class {number % 3}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 10), (number, 0, 0)).save(path)
    (tmp_path / "class 0" / "broken.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image either")
    return tmp_path


def test_the_choice_is_seeded_and_names_go_with_images(folder):
    first = choose_samples(folder, 5, (4, 6), POLICY, seed=1)
    again = choose_samples(folder, 5, (4, 6), POLICY, seed=1)
    other = choose_samples(folder, 5, (4, 6), POLICY, seed=2)
    assert first.names == again.names != other.names
    assert first.images.shape == (5, 4, 6, 3)
    numbers = [int(name.partition("/")[2].removesuffix(".png")) for name in first.names]
    assert first.images[:, 0, 0, 0].tolist() == numbers


def test_unreadable_images_are_passed_over(folder):
    assert len(choose_samples(folder, 100, (4, 6), POLICY).names) == 9


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ExportError, match="without a readable image"):
        choose_samples(tmp_path, 3, (4, 6), POLICY)
    with pytest.raises(ExportError, match="missing` does not exist"):
        choose_samples(tmp_path / "missing", 3, (4, 6), POLICY)


def test_drawn_images_are_repeatable_and_unlike_each_other():
    first = choose_samples(None, 8, (24, 32), POLICY)
    assert np.array_equal(first.images, choose_samples(None, 8, (24, 32), POLICY).images)
    means = first.images.reshape(8, -1).mean(axis=1)
    assert np.ptp(means) > 20
    assert first.images.reshape(8, -1).std(axis=1).min() > 10
