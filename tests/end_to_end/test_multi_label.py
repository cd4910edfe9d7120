"""Several labels to an image, all the way: a table, train, report, export, check, predict, resume and serve."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import command_fuzz
import numpy as np
import pytest
import requests
from kerasxfer_serving.commands import application as serving_application
from kerasxfer_serving.model.manifest import Manifest
from PIL import Image

from kerasxfer.commands import application

CHANNELS = {"blue": 2, "green": 1, "red": 0}


def draw(root, images, seed):
    """Images in which each channel is bright or not, and a table of the bright ones."""
    rng = np.random.default_rng(seed)
    root.mkdir()
    lines = []
    for number in range(images):
        labels = [name for bit, name in enumerate(CHANNELS) if number >> bit & 1]
        pixels = rng.integers(0, 80, (20, 24, 3))
        for name in labels:
            pixels[..., CHANNELS[name]] = rng.integers(170, 255, (20, 24))
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{number:03}.png")
        lines.append((f"{number:03}.png", "|".join(labels)))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *lines])
    return root / "labels.csv"


def call(app, name, *arguments):
    result = command_fuzz.run(app, name, [*map(str, arguments)])
    assert result.status == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multi_label")
    draw(folder / "train", 64, 1)
    draw(folder / "validation", 32, 2)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    call(
        application, "kerasxfer",
        "train", folder / "train" / "labels.csv", "--validation", folder / "validation" / "labels.csv", "--multi-label",
        "--test", folder / "validation" / "labels.csv",
        "--backbone", "DemoVGG", "--backbone-output", "block1_pool", "--image-size", "32", "--epochs", "12",
        "--batch-size", "4", "--learning-rate", "0.05", "--head", "average", "--dropout", "0", "--out", folder / "run",
    )  # fmt: skip
    return folder / "run"


@pytest.fixture(scope="module")
def model(folder, run):
    path = folder / "model.onnx"
    call(application, "kerasxfer", "export", run, "-o", path, "--check", folder / "validation" / "labels.csv")
    return path


def test_the_run_says_its_task_and_what_it_reached(run):
    record = json.loads((run / "config.json").read_text())
    assert record["task"] == "multi_label"
    assert record["class_names"] == ["blue", "green", "red"]
    assert len(record["thresholds"]) == 3
    assert record["result"]["mean_average_precision"] > 0.9
    assert {"pr_auc", "macro_f1"} <= set(record["result"])
    tested = record["test_result"]
    assert tested["macro_f1_at_thresholds_low"] <= tested["macro_f1_at_thresholds"]
    assert "val_pr_auc" in (run / "history.csv").read_text().splitlines()[0]


def test_the_report_is_about_labels(run, folder):
    call(application, "kerasxfer", "report", run, "-o", folder / "report.html")
    assert "Average precision by label" in (folder / "report.html").read_text()


def test_the_file_says_what_the_run_chose(run, model, folder):
    manifest, record = Manifest.read(model), json.loads((run / "config.json").read_text())
    assert (manifest.task, list(manifest.thresholds)) == ("multi_label", record["thresholds"])
    assert manifest.parity["check"]["max_difference_below"] <= 1e-5
    train = folder / "train" / "labels.csv"
    checked = call(application, "kerasxfer", "check", model, "--against", run, "--data", train)
    assert "mean average precision" in checked.stdout


@pytest.fixture(scope="module")
def rows(folder, model):
    out = folder / "rows.csv"
    call(
        serving_application, "kerasxfer-serving", "predict", model, folder / "validation", "-o", out, "--device", "cpu"
    )
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_have_the_labels_of_the_table(rows, folder):
    with (folder / "validation" / "labels.csv").open(newline="") as file:
        expected = {row["image"]: row["label"] for row in csv.DictReader(file)}
    found = {row["path"].rpartition("/")[2]: "|".join(sorted(filter(None, row["labels"].split("|")))) for row in rows}
    assert sum(found[image] == labels for image, labels in expected.items()) >= 0.9 * len(expected)


def test_a_run_that_was_stopped_goes_on(rows, folder, model):
    out = folder / "parts"
    options = ("-o", f"{out}/", "--format", "csv", "--part-rows", 8, "--device", "cpu", "--batch-size", 8)
    call(serving_application, "kerasxfer-serving", "predict", model, folder / "validation", *options)
    whole = [path.read_text() for path in sorted(out.glob("part-*"))]
    sorted(out.glob("part-*"))[-1].unlink()  # as a crash of the disk would
    call(serving_application, "kerasxfer-serving", "predict", model, folder / "validation", *options, "--resume")
    assert [path.read_text() for path in sorted(out.glob("part-*"))] == whole


@pytest.fixture(scope="module")
def url(model):
    command = [sys.executable, "-m", "kerasxfer_serving", "serve", str(model), "--port", "0", "--no-access-log"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        yield next(line.split()[2] for line in process.stderr if line.startswith("Serving at"))
        process.terminate()


def test_the_server_says_the_same(rows, url):
    for row in rows[:8]:
        answer = requests.post(f"{url}/predict", data=Path(row["path"]).read_bytes(), timeout=60).json()
        assert "|".join(answer["predictions"][0]["labels"]) == row["labels"]


def test_folders_of_classes_have_one_label_an_image(folder):
    for name in ("a", "b"):
        (folder / "classes" / name).mkdir(parents=True)
    arguments = ["train", str(folder / "classes"), "--multi-label", "--out", str(folder / "none")]
    result = command_fuzz.run(application, "kerasxfer", arguments)
    assert result.status == 2
    assert "takes a table of images and their labels" in result.stderr
