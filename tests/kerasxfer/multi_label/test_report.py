"""The report and the model card of a run with several labels to an image."""

import csv
import dataclasses
import json
import re

import command_fuzz
import pytest
import yaml
from kerasxfer_serving.errors import KerasxferError

from kerasxfer.commands import application
from kerasxfer.export.card import write_card
from kerasxfer.report import build_report
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.run_folder import RunRecord

NAMES = ("blue", "green", "red")


@pytest.fixture
def run(model, table, tmp_path):
    """A finished run; at 0.99 no red is found, and one image is labelled otherwise than it looks."""
    folder = tmp_path / "run"
    folder.mkdir()
    model.save(folder / "model.keras")
    lines = table.read_text().splitlines()
    lines[2] = lines[2].partition(",")[0] + ",green"  # it is blue
    wrong = tmp_path / "validation.csv"
    wrong.write_text("\n".join([lines[0], *(f"{table.parent}/{line}" for line in lines[1:])]))
    config = TrainConfig(
        str(table), validation=str(wrong), image_size=(16, 16), epochs=2, task="multi_label", activation="sigmoid"
    )
    record = RunRecord(config, NAMES, {"training": 40, "validation": 40}, seconds=3.0, thresholds=(0.5, 0.5, 0.99))
    record.write(folder / "config.json")
    with (folder / "history.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("epoch", "loss", "val_loss"), (0, 0.5, 0.4), (1, 0.3, 0.2)])
    return folder


def test_the_page_is_about_labels(run, tmp_path):
    (result,) = build_report([run], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    evaluation = result.evaluation
    blue, green, red = evaluation.classes
    assert (blue.recall, blue.precision) == (1.0, pytest.approx(19 / 20))
    assert (red.threshold, red.recall, red.precision) == (0.99, 0.0, None)
    assert green.average_precision.value < 1.0
    text = re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    text = " ".join(text.split())
    for part in ("Mean average precision", "Macro F1", "Macro AUC", "Labels", "Average precision by label"):
        assert part in text
    for part in ("Precision over recall", "Most confident mistakes", "Least certain images", "several labels to an"):
        assert part in text
    assert "Confusion matrix" not in text
    assert "chosen on these very images" in text
    assert re.search(r"not green \d\.\d % true: green", text)  # the surest mistake


def test_other_images_are_not_those_that_chose_the_thresholds(run, table, tmp_path):
    build_report([run], tmp_path / "report.html", data=table)
    assert "chosen on these very images" not in (tmp_path / "report.html").read_text()


def test_two_runs_beside_each_other(run, tmp_path):
    build_report([run, run], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("Mean average precision") >= 3


def test_images_without_labels_are_refused(run, table, tmp_path):
    lines = table.read_text().splitlines()
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join([lines[0], *(f"{table.parent}/{line.partition(',')[0]}," for line in lines[1:])]))
    with pytest.raises(KerasxferError, match="has a label"):
        build_report([run], tmp_path / "report.html", data=bare)


def test_the_command_prints_the_figures(run, tmp_path):
    out = str(tmp_path / "report.html")
    result = command_fuzz.run(application, "kerasxfer", ["report", str(run), "-o", out, "--format", "json"])
    assert result.status == 0, result.stderr
    (figures,) = json.loads(result.stdout)["runs"]
    assert figures["low"] <= figures["mean_average_precision"] <= figures["high"]
    result = command_fuzz.run(application, "kerasxfer", ["report", str(run), "-o", out])
    assert "mean average precision 0." in result.stderr


def test_the_card_is_about_labels(run, exported, tmp_path):
    (tmp_path / "model").mkdir()
    file = dataclasses.replace(exported.file, path=tmp_path / "model" / "colours.onnx")
    file.path.write_bytes(exported.file.path.read_bytes())
    text = write_card(dataclasses.replace(exported, file=file), run).read_text()
    (model,) = yaml.safe_load(text.split("---\n")[1])["model-index"]
    assert model["results"][0]["metrics"][0]["type"] == "mean_average_precision"
    assert "Mean average precision **0." in text
    assert "| red | 20 | 0.7 |" in text
    assert "predictions.label_sets" in text
    assert "gets one of them" not in text
