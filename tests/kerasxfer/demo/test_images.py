import hashlib

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerasxfer.demo.images import SOURCE_CLASSES, TASK_CLASSES, draw_folder, draw_image
from kerasxfer.demo.shapes import SOURCE_SHAPES, TASK_SHAPES


@pytest.fixture(scope="module")
def task():
    """75 images of each of the demo's classes, and their labels."""
    rng = np.random.default_rng(7)
    images = [draw_image(name, 32, rng) for name in TASK_CLASSES for _ in range(75)]
    return np.stack(images), np.repeat(range(len(TASK_CLASSES)), 75)


def test_an_image_is_square_rgb_pixels():
    image = draw_image("fish", 40, np.random.default_rng(0))
    assert image.shape == (40, 40, 3)
    assert image.dtype == np.uint8
    assert image.std() > 10


def test_the_same_seed_draws_the_same_image_and_another_seed_another():
    first, again, other = (draw_image("key", 32, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_unknown_shape_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"`name` must be one of arrow, .*wheel\. Received: name='cat'"):
        draw_image("cat", 32, np.random.default_rng(0))


def test_the_task_holds_no_class_that_the_backbone_was_trained_on():
    assert not set(SOURCE_CLASSES) & set(TASK_CLASSES)
    outlines = {part.points.tobytes() for parts in SOURCE_SHAPES.values() for part in parts if part.width is None}
    bodies = {parts[0].points.tobytes() for parts in TASK_SHAPES.values()}
    assert not outlines & bodies


@pytest.mark.parametrize("statistics", ["mean", "mean and spread"])
def test_colours_do_not_tell_the_classes_apart(statistics, task):
    images, labels = task
    colours = images.mean(axis=(1, 2))
    if statistics == "mean and spread":
        colours = np.hstack([colours, images.std(axis=(1, 2))])
    for classifier in (LogisticRegression(), KNeighborsClassifier(9)):
        scores = cross_val_score(make_pipeline(StandardScaler(), classifier), colours, labels, cv=5)
        # Chance is 0.25; three standard errors of 300 images are 0.075, and areas differ a little.
        assert scores.mean() < 0.4


def test_a_linear_classifier_on_pixels_does_not_solve_the_task(task):
    images, labels = task
    pixels = images[:, ::2, ::2].reshape(len(images), -1) / 255
    assert cross_val_score(LogisticRegression(max_iter=300), pixels, labels, cv=3).mean() < 0.45


def test_a_folder_has_a_sub_folder_per_class(tmp_path):
    root = draw_folder(tmp_path / "images", ["fish", "star"], 3, size=24, seed=5)
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    assert files == [f"{name}/{name}-{number:03}.png" for name in ("fish", "star") for number in range(3)]
    with Image.open(root / files[0]) as image:
        assert (image.size, image.mode) == ((24, 24), "RGB")


def test_a_class_looks_the_same_whatever_is_drawn_beside_it(tmp_path):
    alone = draw_folder(tmp_path / "alone", ["umbrella"], 2, size=24)
    among = draw_folder(tmp_path / "among", TASK_CLASSES, 2, size=24)
    for name in ("umbrella-000.png", "umbrella-001.png"):
        assert hashlib.sha256((alone / "umbrella" / name).read_bytes()).digest() == (
            hashlib.sha256((among / "umbrella" / name).read_bytes()).digest()
        )
