"""What `train` says of validation images that are trained on."""

import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.training import train

SIZE = 48


@pytest.fixture
def pets(tmp_path):
    """Two classes to train on, and others to validate on."""
    for part, count, first in (("train", 12, 0), ("validation", 5, 100)):
        for number, name in enumerate(("cats", "dogs")):
            (tmp_path / part / name).mkdir(parents=True)
            for k in range(count):
                random = np.random.default_rng(first + 1000 * number + k)
                patches = Image.fromarray(random.integers(0, 256, (6, 6, 3), "uint8"))
                patches.resize((SIZE, SIZE), Image.Resampling.NEAREST).save(tmp_path / part / name / f"{k}.png")
    return tmp_path


def said(pets, capsys, **more):
    config = TrainConfig(
        str(pets / "train"), str(pets / "validation"), backbone="DemoVGG", image_size=(SIZE, SIZE), epochs=1, **more
    )
    train(config, pets / "run", overwrite=True)
    return [line for line in capsys.readouterr().err.splitlines() if "copies of training images" in line]


def test_nothing_is_said_where_there_is_nothing_to_say(pets, capsys):
    assert said(pets, capsys, cache=str(pets / "cache")) == []


@pytest.mark.parametrize("cached", [True, False])
def test_equal_files_are_told_and_what_they_gave(pets, capsys, cached):
    for k in range(2):
        shutil.copy(pets / f"validation/cats/{k}.png", pets / f"train/cats/copy{k}.png")
    (line,) = said(pets, capsys, cache=str(pets / "cache") if cached else None)
    assert line.startswith("2 of 10 validation images are copies of training images. Without them the accuracy is ")
    assert "kerasxfer audit" in line


def test_near_copies_are_found_by_cached_features(pets, capsys):
    image = Image.open(pets / "validation/dogs/0.png")
    ImageEnhance.Brightness(image).enhance(0.95).save(pets / "train/dogs/near.png")
    (line,) = said(pets, capsys, cache=str(pets / "cache"))
    assert line.startswith("1 of 10 validation images")


def test_nothing_is_left(pets, capsys):
    shutil.rmtree(pets / "validation")
    shutil.copytree(pets / "train", pets / "validation")
    (line,) = said(pets, capsys)
    assert "24 of 24" in line
    assert "nothing is left" in line
