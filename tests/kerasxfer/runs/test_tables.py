"""From a table to a run, its cache and its report, through the command line."""

import csv
import json
import re
from dataclasses import replace

import pytest
from kerasxfer_serving.errors import UsageError
from PIL import Image
from typer.testing import CliRunner

from kerasxfer.commands import application
from kerasxfer.data.tables.columns import TableOptions
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.datasets import datasets
from kerasxfer.runs.run_folder import RunFolder
from kerasxfer.runs.training import train

PATIENTS = 12
EACH = 3


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """`photos/`, and `labels.csv` with the kind, the patient and the weight of each; two patients of three are ill."""
    root = tmp_path_factory.mktemp("clinic")
    (root / "photos").mkdir()
    rows = []
    for patient in range(PATIENTS):
        for number in range(EACH):
            name = f"p{patient}_{number}.png"
            Image.new("RGB", (20, 20), (40 if patient % 3 else 200, 7 * patient, number)).save(root / "photos" / name)
            rows.append(
                {
                    "image": name,
                    "label": "ill" if patient % 3 else "well",
                    "patient": f"p{patient}",
                    "w": 1 + patient % 2,
                }
            )
    write(root / "labels.csv", rows)
    with_split = [{**row, "split": ("train", "train", "val", "test")[at % 4]} for at, row in enumerate(rows)]
    write(root / "divided.csv", with_split)
    return root


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def invoke(*arguments):
    result = CliRunner().invoke(application(), [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result


@pytest.fixture(scope="module")
def trained(clinic):
    """The run of the README's sentence, with what the command said."""
    result = invoke(
        *("train", clinic / "labels.csv", "--images", clinic / "photos", "--validation-split", 0.25),
        *("--group-column", "patient", "--weight-column", "w", "--out", clinic / "run", "--backbone", "DemoVGG"),
        *("--image-size", 32, "--epochs", 2, "--batch-size", 8, "--learning-rate", 0.01),
    )
    return clinic / "run", result.output


def test_a_run_on_a_table_says_what_it_read_and_how_even_the_split_is(trained):
    _, output = trained

    assert re.search(r"Found in the table: images in column 'image', labels in column 'label'", output)
    assert re.search(r"For validation: 9 of 36 images \(25\.0%\), 3 of 12 groups; of each class 25\.0%", output)


def test_the_run_keeps_what_was_said_and_reports_on_the_same_images(trained):
    run, _ = trained

    config = RunFolder(run).read().config
    assert config.table.group_column == "patient"
    result = invoke("report", run, "--output", run.parent / "report.html", "--format", "json")
    (figures,) = json.loads(result.stdout)["runs"]
    assert figures["pictures"] == 9
    page = (run.parent / "report.html").read_text(encoding="utf-8")
    assert "group column patient" in page


def test_a_report_on_another_table(trained, clinic):
    run, _ = trained
    write(clinic / "more.csv", [{"file": f"p1_{number}.png", "ground_truth": "ill"} for number in range(EACH)])

    result = invoke(
        *("report", run, "--data", clinic / "more.csv", "--label-column", "ground_truth"),
        *("--output", run.parent / "more.html", "--format", "json"),
    )

    assert json.loads(result.stdout)["runs"][0]["pictures"] == EACH


def config_of(clinic, data, said=None, **options):
    table = TableOptions(root=str(clinic / "photos"), **said or {})
    return TrainConfig(str(clinic / data), table=table, backbone="DemoVGG", image_size=(32, 32), **options)


def test_a_column_of_subsets_makes_the_validation_images_and_keeps_the_test_images_out(clinic):
    training, validation = datasets(config_of(clinic, "divided.csv"))

    assert len(training.paths) == PATIENTS * EACH // 2
    assert len(validation.paths) == PATIENTS * EACH // 4
    assert not set(training.paths) & set(validation.paths)
    assert not validation.shuffle


def test_a_table_of_its_own_for_validation_needs_no_groups(clinic):
    write(clinic / "more.csv", [{"file": f"p1_{number}.png", "label": "ill"} for number in range(EACH)])
    config = config_of(clinic, "labels.csv", {"group_column": "patient"}, validation=str(clinic / "more.csv"))

    training, validation = datasets(config)

    assert validation.class_names == training.class_names == ["ill", "well"]
    assert validation.labels.tolist() == [0] * EACH
    write(clinic / "other.csv", [{"file": "p1_0.png", "label": "dead"}])
    with pytest.raises(UsageError, match="`class_names` must name every label"):
        datasets(replace(config, validation=str(clinic / "other.csv")))


def test_groups_of_a_pattern_are_kept_together_in_class_folders_too(clinic):
    for name in ("ill", "well"):
        (clinic / "folders" / name).mkdir(parents=True)
    for path in (clinic / "photos").iterdir():
        kind = "ill" if int(path.name[1:].split("_")[0]) % 3 else "well"
        (clinic / "folders" / kind / path.name).write_bytes(path.read_bytes())
    table = TableOptions(group_pattern=r"p\d+_")
    config = TrainConfig(str(clinic / "folders"), validation_split=0.25, table=table)

    training, validation = datasets(config)

    patients = [{path.split("/")[1].split("_")[0] for path in part.paths} for part in (training, validation)]
    assert not patients[0] & patients[1]
    assert "3 of 12 groups" in str(validation.division)


def test_the_cache_of_a_table_is_that_of_the_same_images_in_folders(trained, clinic):
    run, _ = trained

    result = invoke(
        *("cache", "plan", run / "cache", run / "model.keras", clinic / "labels.csv"),
        *("--images", clinic / "photos", "--format", "json"),
    )

    assert json.loads(result.stdout)["pictures"] == PATIENTS * EACH


def test_weights_reach_the_loss_with_and_without_a_cache(clinic, tmp_path):
    losses = []
    for weight_column, cache in ((None, None), ("w", None), ("w", str(tmp_path / "cache"))):
        config = config_of(clinic, "labels.csv", {"weight_column": weight_column}, epochs=1, cache=cache)
        train(config, tmp_path / f"{len(losses)}")
        with (tmp_path / f"{len(losses)}" / "history.csv").open() as file:
            losses.append(float(list(csv.DictReader(file))[-1]["loss"]))

    plain, weighted, cached = losses
    assert weighted > 1.2 * plain  # the mean weight is 1.5, and Keras divides by the number of images
    assert cached == pytest.approx(weighted, rel=1e-3)


def test_options_of_tables_are_refused_for_folders(clinic):
    result = CliRunner().invoke(
        application(),
        ["train", str(clinic / "photos"), "--image-column", "x", "--out", str(clinic / "r"), "--backbone", "DemoVGG"],
    )

    assert result.exit_code != 0
    assert "`--image-column` is for tables" in str(result.exception)


def test_preview_takes_a_table(clinic):
    result = invoke(
        *("preview", clinic / "labels.csv", "--images", clinic / "photos", "--image-size", 32),
        *("--pictures", 2, "--copies", 2, "--output", clinic / "preview.png"),
    )

    assert result.stdout.strip() == str(clinic / "preview.png")
    assert Image.open(clinic / "preview.png").width > 32
