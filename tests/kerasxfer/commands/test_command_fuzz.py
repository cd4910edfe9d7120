"""Whatever is given to whatever option: no command ends in a traceback."""

import contextlib
import re

import command_fuzz
import keras
import numpy as np
import pytest
from PIL import Image

from kerasxfer.commands import application
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.training import train

pytestmark = [
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="options are read before any backend"),
    pytest.mark.usefixtures("without_graphs"),
]

ELSEWHERE = {"predict", "serve", "benchmark", "inspect", "export", "check"}
# A demo in a new folder would run from the beginning to the end.
CASES = [
    case for case in command_fuzz.cases(application()) if case.command[0] not in ELSEWHERE and str(case) != "demo-out"
]

VALID = {
    "demo": {"out": ["data"]},
    "split": {"source": ["data"], "destination": ["out"], "train": ["1"]},
    "train": {"data": ["data"], "plan": [], "backbone": ["DemoVGG"], "image_size": ["32"]},
    "audit": {"data": ["missing"], "backbone": ["DemoVGG"], "image_size": ["32"]},
    "choose": {"data": ["missing"], "candidates": ["DemoVGG"], "image_sizes": ["32"], "no_rates": []},
    "report": {"runs": ["run"]},
    "preview": {"data": ["data"], "image_size": ["32"]},
    "env": {},
    "cache plan": {"cache": ["cache"], "model": ["run/model.keras"], "data": ["data"]},
    "cache build": {"cache": ["cache"], "model": ["run/model.keras"], "data": ["data"]},
    "cache ls": {"cache": ["cache"]},
    "cache verify": {"cache": ["cache"]},
    "cache gc": {"cache": ["cache"]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all commands run, with the files that they need."""
    folder = tmp_path_factory.mktemp("commands")
    command_fuzz.make_files(folder)
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(0, 255, (32, 32, 3), dtype="uint8")
            Image.fromarray(pixels).save(folder / "data" / name / f"{i}.png")
    with contextlib.chdir(folder):
        train(TrainConfig("data", validation="data", backbone="DemoVGG", image_size=(32, 32), epochs=1), "run")
    return folder


# Folders that earlier cases have left are data to later ones: to a user this is a warning and no traceback.
@pytest.mark.filterwarnings("ignore:Class folders without images")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_wrong_value_ends_in_a_sentence(case, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for arguments in case.command_lines(VALID[" ".join(case.command)]):
        command_fuzz.require_sentence(command_fuzz.run(application, "kerasxfer", arguments))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train nowhere --out run2", "which is not a folder"),
        ("train one --out run2 --backbone DemoVGG", "two or more class folders.*'one'"),
        ("train . --out run2 --backbone DemoVGG", "must be outside the image folders"),
        ("train data --out run2 --validation-split 20", "between 0 and 1"),
        ("train data --out run2 --backbone DemoVGG --optimizer adamm", "`optimizer` must be one of.*adamw"),
        ("train data --out run2 --backbone ResNet18", "must be the name of a `keras.applications` model"),
        ("train data --out run2 --backbone MobileNet --weights none --image-size 8", "at least 32x32"),
        ("train data --out run2 --backbone MobileNet --weights none --backbone-args alpha=x", "alpha='x'"),
        ("train data --out run2 --backbone DemoVGG --preprocess torchvision", "`mode` must be one of"),
        ("train data --out run2 --augment rotate=40", "arguments of `Augmentation`, as height_shift_range"),
        ("train data --out run2 --resume --overwrite", "exclude each other"),
        ("train data --out garbage --backbone DemoVGG", "must be empty, missing or a run folder"),
    ],
)
def test_mistakes_that_people_make(words, message, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "one" / "only").mkdir(parents=True, exist_ok=True)
    before = sorted(folder.iterdir())
    outcome = command_fuzz.run(application, "kerasxfer", words.split())
    assert outcome.status in (1, 2)
    assert outcome.stderr.startswith("Error: ")
    assert re.search(message, outcome.stderr), outcome.stderr
    assert sorted(folder.iterdir()) == before
