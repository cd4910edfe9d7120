"""Tables of decisions: read as spreadsheets write them, and obeyed by data sets, `split` and `train`."""

import numpy as np
import pytest
from kerasxfer_serving.errors import KerasxferError, UsageError
from PIL import Image
from typer.testing import CliRunner

import kerasxfer
from kerasxfer.commands import application
from kerasxfer.data.decisions import Decisions
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.datasets import datasets


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """Six images of two classes; paths are relative to where the command is run."""
    for number in range(3):
        for name in ("cats", "dogs"):
            (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number + 7 * (name == "dogs")).integers(0, 256, (16, 16, 3), "uint8")
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pets"


def table(tmp_path, *rows, name="decisions.csv", separator=","):
    lines = [("path", "problem", "suggestion", "decision"), *rows]
    (tmp_path / name).write_text("\n".join(separator.join(line) for line in lines), "utf-8-sig")
    return tmp_path / name


DECIDED = [
    ("pets/cats/0.png", "duplicate", "exclude", "exclude"),
    ("pets/cats/1.png", "likely wrong label", "label: dogs", "label: dogs"),
    ("pets/cats/1.png", "outlier", "look", "keep"),
    ("pets/dogs/2.png", "tiny", "look", ""),
]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_data_set_obeys(pets, tmp_path, separator):
    path = table(tmp_path, *DECIDED, separator=separator)
    assert Decisions.read(path).undecided == 1
    data = kerasxfer.ImageFolder("pets", (16, 16), shuffle=False, decisions=path)
    assert data.paths == ["cats/1.png", "cats/2.png", "dogs/0.png", "dogs/1.png", "dogs/2.png"]
    assert data.labels.tolist() == [1, 0, 1, 1, 1]
    assert len(data[0][0]) == 5


def test_an_image_excluded_for_one_reason_is_excluded(pets, tmp_path):
    rows = [("pets/cats/0.png", "a", "", "keep"), ("pets/cats/0.png", "b", "", "exclude")]
    assert len(kerasxfer.ImageFolder("pets", (16, 16), decisions=table(tmp_path, *rows)).paths) == 5


def test_a_table_of_labels_obeys(pets, tmp_path):
    labels = {"image": ["cats/0.png", "cats/1.png", "dogs/0.png"], "label": ["cats", "cats", "dogs"]}
    data = kerasxfer.ImageTable(labels, (16, 16), root="pets", shuffle=False, decisions=table(tmp_path, *DECIDED))
    assert data.paths == ["cats/1.png", "dogs/0.png"]
    assert data.labels.tolist() == [1, 1]


def test_a_run_obeys_in_training_and_validation(pets, tmp_path):
    config = TrainConfig("pets", validation="pets", image_size=(16, 16), exclude=str(table(tmp_path, *DECIDED)))
    training, validation = datasets(config)
    assert len(training.paths) == len(validation.paths) == 5


def test_split_obeys_and_changes_no_source(pets, tmp_path):
    path = table(tmp_path, *DECIDED)
    before = sorted(pets.rglob("*"))
    done = CliRunner().invoke(application(), ["split", "pets", "out", "--train", "1.0", "--apply", str(path)])
    assert done.exit_code == 0, done.output
    written = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png")}
    assert written == {
        "train/cats/2.png", "train/dogs/0.png", "train/dogs/1.png", "train/dogs/2.png", "train/dogs/cats/1.png"
    }  # fmt: skip
    assert (tmp_path / "out/train/dogs/cats/1.png").read_bytes() == (pets / "cats/1.png").read_bytes()
    assert sorted(pets.rglob("*")) == before


def test_split_of_a_table_excludes_and_leaves_labels_to_the_table(pets, tmp_path):
    (tmp_path / "pets.csv").write_text(
        "image,label\npets/cats/0.png,cats\npets/cats/1.png,cats\npets/dogs/0.png,dogs\n"
    )
    path = table(tmp_path, DECIDED[0])
    done = CliRunner().invoke(application(), ["split", "pets.csv", "out", "--train", "1.0", "--apply", str(path)])
    assert done.exit_code == 0, done.output
    assert "cats/0.png" not in (tmp_path / "out/train.csv").read_text()
    path = table(tmp_path, *DECIDED)
    done = CliRunner().invoke(application(), ["split", "pets.csv", "more", "--train", "1.0", "--apply", str(path)])
    assert isinstance(done.exception, UsageError) or "change them there" in done.output


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("pets/cats/0.png", "x", "", "delete")], "A decision is .* Received: 'delete' in row 2"),
        ([("pets/cats/0.png", "x", "", "label: cows")], "none of the classes: 'cows'"),
        (
            [("pets/cats/0.png", "x", "", "label: cats"), ("pets/cats/0.png", "y", "", "label: dogs")],
            "two labels, 'cats' and 'dogs'",
        ),
        ([("elsewhere/cats/0.png", "x", "", "exclude")], "None of the 1 images .* go there"),
        ([(f"pets/{n}/{k}.png", "x", "", "exclude") for n in ("cats", "dogs") for k in range(3)], "excludes all"),
    ],
    ids=["unknown", "no class", "two labels", "elsewhere", "all"],
)
def test_what_cannot_be_obeyed_is_refused(pets, tmp_path, rows, message):
    with pytest.raises(KerasxferError, match=message):
        kerasxfer.ImageFolder("pets", (16, 16), decisions=table(tmp_path, *rows))


def test_decisions_about_other_folders_are_none_of_this_one(pets, tmp_path):
    (tmp_path / "other.png").write_bytes((pets / "cats/0.png").read_bytes())
    path = table(tmp_path, ("other.png", "x", "", "exclude"))
    assert len(kerasxfer.ImageFolder("pets", (16, 16), decisions=path).paths) == 6


def test_another_table_is_refused(pets, tmp_path):
    (tmp_path / "other.csv").write_text("image,label\na.png,cat\n")
    with pytest.raises(UsageError, match="has the columns path, problem, suggestion, decision"):
        kerasxfer.ImageFolder("pets", (16, 16), decisions=tmp_path / "other.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        kerasxfer.ImageFolder("pets", (16, 16), decisions=tmp_path / "gone.csv")
