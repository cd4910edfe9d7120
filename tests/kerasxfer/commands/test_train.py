"""`kerasxfer train` as it is typed, on a table whose rows say what they are for: what it prints, keeps and refuses."""

import json

import numpy as np
import pytest
import typer
from kerasxfer_serving.errors import UsageError
from PIL import Image
from typer.testing import CliRunner

from kerasxfer.commands.train import train
from kerasxfer.runs.run_folder import RunFolder


def invoke(*arguments):
    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Dark and light images, with rows for training, validation and test."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    lines = ["image,label,split,weight"]
    for number in range(24):
        name, low = ("dark", 0) if number % 3 else ("light", 90)
        Image.fromarray(rng.integers(low, low + 150, (32, 32, 3), dtype="uint8")).save(root / f"{number}.png")
        lines.append(f"{number}.png,{name},{('train', 'train', 'val', 'test')[number // 6]},{1 + number % 2}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root / "labels.csv"


SETTINGS = ("--backbone", "DemoVGG", "--image-size", "32", "--batch-size", "6", "--epochs", "2")


def test_says_which_epoch_was_kept_and_how_good_it_is_on_test_images(table, tmp_path):
    run = tmp_path / "run"
    result = invoke(table, *SETTINGS, "--out", run, "--class-weight", "balanced", "--patience", "3")
    first, kept, test = result.stdout.splitlines()
    record = RunFolder(run).read()
    assert first.startswith(f"run {run}, accuracy ")
    assert kept == f"kept: epoch {record.kept_epoch}, the best by val_loss"
    assert test.startswith("test: accuracy ")
    assert "accuracy low" in test
    assert dict(record.images) == {"training": 12, "validation": 6, "test": 6}


def test_says_it_as_json_too(table, tmp_path):
    more = ("--weight-column", "weight", "--monitor", "val_accuracy", "--format", "json", "--draft")
    result = invoke(table, *SETTINGS, "--out", tmp_path / "run", *more)
    values = json.loads(result.stdout)
    assert values["monitor"] == "val_accuracy"
    assert values["kept_epoch"] in (1, 2)
    assert 0 <= values["test"]["accuracy_low"] <= values["test"]["accuracy"] <= values["test"]["accuracy_high"] <= 1
    assert RunFolder(tmp_path / "run").read().config.policy["draft"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--augment", "rand", "--cache", "cache"), "`--cache` keeps what the frozen layers"),
        (("--copies", "3"), "it needs `--augment` and a cache"),
        (("--augment", "rand", "--copies", "3", "--no-cache"), "it needs `--augment` and a cache"),
        (("--augment", "rand,erasing=0.5", "--copies", "3"), "leave erasing, which"),
        (("--class-weight", "balanced", "--weight-column", "weight"), "both weight the images"),
        (("--augment", "mixup=0.2", "--weight-column", "weight"), "leave out `weight_column`"),
    ],
    ids=["cached augmentation", "plain copies", "copies without a cache", "copies of batches", "two weights", "mixed"],
)
def test_what_does_not_go_together_is_refused_before_a_run_begins(table, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        invoke(table, *SETTINGS, "--out", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()
