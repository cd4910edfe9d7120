"""The audit of small data sets with planted faults, through `kerasxfer.audit` and the command."""

import csv
import json
import shutil

import numpy as np
import pytest
from kerasxfer_serving.errors import KerasxferError
from PIL import Image, ImageDraw

import kerasxfer
from kerasxfer.commands import application

pytest.importorskip("sklearn")
SIZE = 48


def draw(kind, seed):
    """A shape of a class on a background of its own."""
    random = np.random.default_rng(seed)
    patches = Image.fromarray(random.integers(0, 256, (4, 4, 3), "uint8"))
    image = patches.resize((SIZE, SIZE), Image.Resampling.NEAREST if seed % 2 else Image.Resampling.BICUBIC)
    (x, y), side = random.integers(0, 20, 2), random.integers(20, 28)
    shape = [int(x), int(y), int(x + side), int(y + side)]
    pen = ImageDraw.Draw(image)
    (pen.ellipse if kind == "circle" else pen.rectangle)(shape, fill="white", outline="black", width=3)
    return image


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A training and a validation folder with one fault of each kind."""
    root = tmp_path_factory.mktemp("planted")
    for subset, count, start in (("train", 60, 0), ("validation", 20, 1000)):
        for number, kind in enumerate(("circle", "square")):
            folder = root / subset / kind
            folder.mkdir(parents=True)
            for k in range(count):
                draw(kind, start + 100 * number + k).save(folder / f"{k:03d}.png")
    train, validation = root / "train", root / "validation"
    shutil.copy(train / "circle/000.png", train / "circle/copy.png")
    shutil.copy(train / "circle/001.png", train / "square/conflict.png")
    shutil.copy(validation / "square/002.png", train / "square/leak.png")
    Image.open(train / "square/003.png").save(train / "square/pixels.bmp")
    Image.new("RGB", (SIZE, SIZE), (9, 9, 9)).save(train / "circle/constant.png")
    Image.new("L", (300, 30), 9).save(train / "circle/wide.png")
    (train / "circle/broken.jpg").write_bytes(b"no image")
    for name in (
        "labels.csv",
        "loose.png",
        "circle/a.txt",
        "circle/b.txt",
        "circle/c.txt",
        "circle/d.txt",
        ".hidden/x",
    ):
        path = train / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("no image")
    draw("square", 5000).save(train / "circle/wrong.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    draw("circle", 5001).save(train / "circle/turned.jpg", exif=turned)
    return root


@pytest.fixture(scope="module")
def found(planted, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    audit = kerasxfer.audit(
        planted / "train", planted / "validation", backbone="DemoVGG", image_size=(SIZE, SIZE), output=out / "audit"
    )
    return audit, out / "audit"


def problems(findings, planted):
    return {(finding.path.removeprefix(f"{planted}/"), finding.problem) for finding in findings}


def test_copies_and_leaks_are_found(found, planted):
    listed = problems(found[0].duplicates, planted)
    assert ("train/circle/copy.png", "duplicate") in listed
    assert ("train/square/pixels.bmp", "duplicate") in listed
    assert ("train/square/leak.png", "leak") in listed
    conflicts = {path for path, problem in listed if problem == "conflicting labels"}
    assert {"train/square/conflict.png", "train/circle/001.png"} <= conflicts
    reasons = {(finding.path.rpartition("/")[2], finding.problem): finding.reason for finding in found[0].duplicates}
    assert "byte for byte" in reasons["copy.png", "duplicate"]
    assert "their pixels are equal" in reasons["pixels.bmp", "duplicate"]
    assert "one is in train, the other in validation" in reasons["leak.png", "leak"]
    (clean,) = found[0].clean
    assert clean.leaked >= 1
    assert clean.without_leaked is not None


def test_odd_files_are_found(found, planted):
    listed = problems(found[0].files, planted)
    assert {
        ("train/circle/broken.jpg", "cannot be read"),
        ("train/circle/constant.png", "constant"),
        ("train/circle/wide.png", "tiny"),
        ("train/circle/wide.png", "extreme aspect"),
        ("train/circle/wide.png", "grey"),
        ("train/circle/turned.jpg", "turned by EXIF"),
        ("train/circle/001.png", "tiny"),
    } <= listed
    assert found[0].files[0].problem == "cannot be read"
    names = ("loose.png", "labels.csv", ".hidden", "circle/a.txt", "circle/b.txt", "circle/c.txt", "circle/d.txt")
    strangers = {(f"train/{name}", "not an image") for name in names}
    assert problems(found[0].files[-len(names) :], planted) == strangers
    assert found[0].images == {"train": 128, "validation": 40}


def test_wrong_labels_come_first(found, planted):
    first = [finding.path.removeprefix(f"{planted}/train/") for finding in found[0].labels[:8]]
    assert {"circle/wrong.png", "square/conflict.png"} & set(first)
    assert len(found[0].labels) == 20


def test_files_say_what_the_audit_says(found):
    audit, folder = found
    said = json.loads((folder / "audit.json").read_text("utf-8"))
    assert said["images"] == audit.images
    assert [each["path"] for each in said["labels"]] == [finding.path for finding in audit.labels]
    rows = list(csv.DictReader((folder / "decisions.csv").open(encoding="utf-8")))
    assert list(rows[0]) == ["path", "problem", "suggestion", "decision"]
    assert len(rows) == sum(map(len, audit.lists.values()))
    assert {row["decision"] for row in rows} == {""}


def test_the_features_are_those_that_training_uses(found, planted):
    cache = kerasxfer.BottleneckCache(found[1] / "cache", verbose=0)
    written = [row["rows"] for row in cache.list()]
    data = kerasxfer.ImageFolder(planted / "validation", (SIZE, SIZE))
    model = kerasxfer.image_classifier("DemoVGG", data.class_names, (SIZE, SIZE))
    model.compile("adam", "sparse_categorical_crossentropy")
    cache.fit(model, data, epochs=1, verbose=0)
    assert [row["rows"] for row in cache.list()] == written


def test_sets_of_other_classes_are_refused(planted, tmp_path):
    (tmp_path / "other/a").mkdir(parents=True)
    draw("circle", 1).save(tmp_path / "other/a/1.png")
    with pytest.raises(KerasxferError, match=r"same classes. Received: \['circle', 'square'\].*\['a'\]"):
        kerasxfer.audit(planted / "train", tmp_path / "other", cache=tmp_path / "cache", backbone="DemoVGG")


def test_a_few_images_of_one_class(tmp_path):
    (tmp_path / "data/only").mkdir(parents=True)
    for k in range(3):
        draw("circle", k).save(tmp_path / f"data/only/{k}.png")
    audit = kerasxfer.audit(tmp_path / "data", cache=tmp_path / "cache", backbone="DemoVGG", image_size=(SIZE, SIZE))
    assert audit.labels == audit.outliers == []
    assert audit.accuracy is None
    assert any("two classes and ten images" in note for note in audit.notes)


def test_the_command_names_images_as_its_folders_were_named(planted, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.chdir(planted)
    options = ["--backbone", "DemoVGG", "--image-size", str(SIZE), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(application(), ["audit", "train", "--validation", "validation", *options])
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "out/audit.html") in result.output
    rows = list(csv.DictReader((tmp_path / "out/decisions.csv").open(encoding="utf-8")))
    assert "train/circle/broken.jpg" in {row["path"] for row in rows}
