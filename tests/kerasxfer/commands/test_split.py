import csv
import json
import ntpath
import subprocess
import sys
from pathlib import PureWindowsPath
from types import SimpleNamespace

import numpy as np
import pytest
from kerasxfer_serving.commands.choices import ResultFormat
from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.images import IMAGE_SUFFIXES, ImageError, load_image
from PIL import Image

from kerasxfer.commands.split import split
from kerasxfer.data.decoding_ahead import check_images
from kerasxfer.data.split_tables import _way
from kerasxfer.data.splits import draw, find_classes, parse_amount, rows_of


def write_image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(path)


@pytest.fixture
def flat(tmp_path):
    """`cat.0.png` … and `dog.0.png` …, ten each, and a cat that cannot be read."""
    folder = tmp_path / "flat"
    for name in ("cat", "dog"):
        for number in range(10):
            write_image(folder / f"{name}.{number}.png", number)
    (folder / "cat.99.jpg").write_bytes(b"no image")
    (folder / "readme.txt").write_text("not one either")
    return folder


@pytest.fixture
def folders(tmp_path):
    """Class folders with a folder inside, as `PetImages/Cat/…`."""
    folder = tmp_path / "folders"
    for number in range(6):
        write_image(folder / "Cat" / f"{number}.png", number)
        write_image(
            folder / "Dog" / ("a" if number % 2 else "b") / "same name.png"
            if number < 2
            else folder / "Dog" / f"{number}.png",
            number,
        )
    return folder


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def test_a_flat_folder_is_divided_by_prefix_and_the_unreadable_are_listed(flat, tmp_path, capsys):
    split(flat, tmp_path / "out", train="5", validation="3", test="1", format="json")

    files = tree(tmp_path / "out")
    assert len(files) == len({path.rsplit("/", 1)[1] for path in files}) == 18
    count = {
        f"{subset}/{name}": sum(path.startswith(f"{subset}/{name}/{name}.") for path in files)
        for subset in ("train", "validation", "test")
        for name in ("cat", "dog")
    }
    assert list(count.values()) == [5, 5, 3, 3, 1, 1]
    assert not any("cat.99" in path for path in files)
    np.testing.assert_array_equal(
        load_image(tmp_path / "out" / files[0]), load_image(flat / files[0].rsplit("/", 1)[1])
    )


def test_the_command_prints_counts_and_what_was_left_out(flat, tmp_path):
    command = [sys.executable, "-m", "kerasxfer", "split", flat, tmp_path / "out", "--train", "0.8", "--test", "0.2"]

    result = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
    again = subprocess.run(command, capture_output=True, text=True, check=False)

    printed = json.loads(result.stdout)
    assert printed["classes"] == {name: {"train": 8, "test": 2, "not used": 0} for name in ("cat", "dog")}
    assert [(bad["path"], bad["code"]) for bad in printed["left_out"]] == [("cat.99.jpg", "not_an_image")]
    assert again.returncode == 2
    assert "nothing is overwritten" in again.stderr


def test_class_folders_keep_what_lies_within(folders, tmp_path):
    split(folders, tmp_path / "out", train="1.0")

    assert tree(tmp_path / "out" / "train") == tree(folders)


def test_the_seed_fixes_the_draw_and_other_classes_do_not_matter(flat):
    def drawn(seed, *names):
        rows, _ = rows_of({name: images for name, images in find_classes(flat).items() if name in names}, flat)
        return {part: {rows.paths[row] for row in chosen} for part, chosen in draw(rows, amounts, seed).items()}

    amounts = {"train": 4, "test": 0.5}
    first = drawn(1, "cat", "dog")

    assert drawn(1, "cat", "dog") == first
    assert drawn(2, "cat", "dog") != first
    assert drawn(1, "dog")["train"] == {path for path in first["train"] if path.startswith("dog")}
    assert not first["train"] & first["test"]


@pytest.mark.parametrize(
    ("amounts", "sizes"),
    [
        ({"train": 0.7, "validation": 0.2, "test": 0.1}, [8, 2, 1]),
        ({"train": 0.5, "test": 0.5}, [6, 5]),
        ({"train": 3, "test": 0.5}, [3, 6]),
    ],
)
def test_shares_that_add_up_use_every_image(tmp_path, amounts, sizes):
    rows, _ = rows_of({"cat": {f"{number}.png": tmp_path / f"{number}.png" for number in range(11)}}, tmp_path)

    assert [len(chosen) for chosen in draw(rows, amounts, seed=0).values()] == sizes


def test_too_few_images_name_the_class_and_write_nothing(flat, tmp_path):
    with pytest.raises(KerasxferError, match=r"Class 'cat' has 10 readable images.*8 for train, 3 for test"):
        split(flat, tmp_path / "out", train="8", test="3")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["flat"]


def test_links_lead_to_the_originals(flat, tmp_path):
    split(flat, tmp_path / "out", train="2", link=True)

    links = list((tmp_path / "out").rglob("*.png"))
    assert len(links) == 4
    assert all(path.is_symlink() and path.resolve().parent == flat.resolve() for path in links)


def test_a_failure_while_writing_leaves_nothing(flat, tmp_path, monkeypatch):
    copied = []

    def fail(source, target):
        copied.append(target)
        if len(copied) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("kerasxfer.data.splits.shutil.copy2", fail)

    with pytest.raises(OSError, match="No space"):
        split(flat, tmp_path / "out", train="5")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["flat"]


def test_an_empty_destination_is_taken_and_a_full_one_is_left_alone(flat, tmp_path):
    (tmp_path / "out").mkdir()
    split(flat, tmp_path / "out", train="2")
    before = tree(tmp_path / "out")

    with pytest.raises(UsageError, match="nothing is overwritten"):
        split(flat, tmp_path / "out", train="3")

    assert tree(tmp_path / "out") == before
    with pytest.raises(UsageError, match="outside SRC"):
        split(flat, flat / "out", train="3")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat.0.jpg", "cat"),
        ("cat.1234.jpeg", "cat"),
        ("dog_12.png", "dog"),
        ("dog-012.png", "dog"),
        ("IMG0001.JPG", "IMG"),
        ("guinea pig (3).jpg", "guinea pig"),
        ("great_pyrenees_7.jpg", "great_pyrenees"),
        ("t-shirt 4.webp", "t-shirt"),
    ],
)
def test_prefixes(tmp_path, name, expected):
    (tmp_path / name).write_bytes(b"")

    assert list(find_classes(tmp_path)) == [expected]


def test_a_pattern_reads_the_class_off_the_path(tmp_path):
    write_image(tmp_path / "2019" / "a-cat-x.png")
    write_image(tmp_path / "2020" / "b-dog-y.png")

    by_name = find_classes(tmp_path, r"-(?P<class>[a-z]+)-")
    by_year = find_classes(tmp_path, r"(\d+)/")

    assert by_name == {
        "cat": {"2019/a-cat-x.png": tmp_path / "2019/a-cat-x.png"},
        "dog": {"2020/b-dog-y.png": tmp_path / "2020/b-dog-y.png"},
    }
    assert list(by_year) == ["2019", "2020"]
    with pytest.raises(UsageError, match=r"1 image\(s\).*b-dog-y.png"):
        find_classes(tmp_path, r"(cat)")
    with pytest.raises(UsageError, match="needs a capture group"):
        find_classes(tmp_path, "cat")
    with pytest.raises(UsageError, match="regular expression"):
        find_classes(tmp_path, "(cat")


def test_sources_that_cannot_be_read_as_classes(flat, folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds none"):
        find_classes(tmp_path / "empty")
    with pytest.raises(UsageError, match="must be a folder"):
        find_classes(tmp_path / "nowhere")
    write_image(folders / "stray.1.png")
    with pytest.raises(UsageError, match="both images"):
        find_classes(folders)
    write_image(flat / "portrait.png")
    with pytest.raises(UsageError, match=r"have no class.*portrait.png"):
        find_classes(flat)


@pytest.mark.parametrize(("text", "expected"), [("1000", 1000), ("0.8", 0.8), ("1.0", 1.0), ("1", 1)])
def test_amounts(text, expected):
    amount = parse_amount("--train", text)

    assert amount == expected
    assert type(amount) is type(expected)


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "many", "0.0", ""])
def test_no_amounts(text):
    with pytest.raises(UsageError, match="`--train` takes a number"):
        parse_amount("--train", text)


def test_no_subset_is_a_usage_error(flat, tmp_path):
    with pytest.raises(UsageError, match="--train, --validation, --test"):
        split(flat, tmp_path / "out")


def test_the_quick_check_finds_what_a_full_decode_does(zoo):
    files = [case.path for case in zoo if case.path.suffix in IMAGE_SUFFIXES]

    for path, bad in zip(files, check_images(files[0].parent, files), strict=True):
        try:
            load_image(path)
            code = None
        except ImageError as error:
            code = error.code
        assert (bad and bad.code) == code, path


@pytest.fixture
def table(tmp_path):
    """`photos/` and `labels.csv`: ten patients of two images, every third ill, and an image that is not there."""
    lines = ["patient,image,label,age"]
    for patient in range(10):
        for number in range(2):
            write_image(tmp_path / "photos" / f"{patient}-{number}.png", patient)
            lines.append(f"p{patient},{patient}-{number},{'well' if patient % 3 else 'ill'},{30 + patient}")
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([*lines, "p9,gone,well,39"]) + "\n")
    return path


def rows_in(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_becomes_tables_beside_the_same_images(table, tmp_path, capsys):
    split(table, tmp_path / "out", train="0.5", test="0.5", images=tmp_path / "photos", format=ResultFormat.json)

    parts = {name: rows_in(tmp_path / "out" / f"{name}.csv") for name in ("train", "test")}
    assert tree(tmp_path / "out") == ["test.csv", "train.csv"]
    assert list(parts["train"][0]) == ["patient", "image", "label", "age"]
    assert len(parts["train"]) == len(parts["test"]) == 10
    assert all((tmp_path / "out" / row["image"]).is_file() for part in parts.values() for row in part)
    printed = json.loads(capsys.readouterr().out)
    assert printed["classes"] == {
        "ill": {"train": 4, "test": 4, "not used": 0},
        "well": {"train": 6, "test": 6, "not used": 0},
    }
    assert [(bad["path"], bad["code"]) for bad in printed["left_out"]] == [("gone", "not_found")]


def test_groups_stay_together_and_the_command_says_how_even_the_parts_are(table, tmp_path, capsys):
    options = {"images": tmp_path / "photos", "group_column": "patient", "format": "text"}
    split(table, tmp_path / "out", train="0.6", validation="0.2", test="0.2", **options)

    parts = {path.stem: {row["patient"] for row in rows_in(path)} for path in (tmp_path / "out").iterdir()}
    assert {name: len(patients) for name, patients in parts.items()} == {"train": 6, "validation": 2, "test": 2}
    assert sum(map(len, parts.values())) == len(set.union(*parts.values()))
    assert "train: 12 of 20 images (60.0%), 6 of 10 groups; of each class" in capsys.readouterr().err
    with pytest.raises(UsageError, match="give fractions of the images"):
        split(table, tmp_path / "again", train="5", **options)


def test_groups_by_a_pattern_in_folders(folders, tmp_path):
    split(folders, tmp_path / "out", train="0.5", test="0.5", group_pattern=r"^[^/]+/")

    assert {path.split("/")[0] for path in tree(tmp_path / "out")} == {"train", "test"}
    assert len({path.split("/")[0] for path in tree(tmp_path / "out" / "train")}) == 1


def test_folders_become_tables_without_a_copy(flat, tmp_path):
    split(flat, tmp_path / "out", train="0.8", test="0.2", tables=True)

    rows = rows_in(tmp_path / "out" / "test.csv")
    assert sorted(row["label"] for row in rows) == ["cat", "cat", "dog", "dog"]
    assert all(load_image(tmp_path / "out" / row["image"]).shape == (4, 4, 3) for row in rows)


@pytest.mark.parametrize(
    ("root", "way"),
    [("C:\\photos", "../photos"), ("D:\\photos", "D:/photos"), ("\\\\nas\\our\\photos", "//nas/our/photos")],
)
def test_tables_name_images_on_another_of_windows_s_drives(root, way, monkeypatch):
    monkeypatch.setattr("kerasxfer.data.split_tables.os", SimpleNamespace(path=ntpath, sep="\\"))
    assert _way(PureWindowsPath("C:/split"), PureWindowsPath(root)) == way


def test_images_of_several_labels_are_balanced_by_the_rarest(tmp_path):
    for number in range(20):
        write_image(tmp_path / f"{number}.png")
    lines = [f"{number}.png,{'a|rare' if number < 4 else 'a'}" for number in range(20)]
    (tmp_path / "tags.csv").write_text("\n".join(["image,tags", *lines]))

    split(tmp_path / "tags.csv", tmp_path / "out", train="0.5", test="0.5")

    assert sum("rare" in row["tags"] for row in rows_in(tmp_path / "out" / "test.csv")) == 2


def test_options_that_contradict_a_table(table, flat, tmp_path):
    for options, message in (({"pattern": "(a)"}, "`--pattern`"), ({"link": True}, "`--link`")):
        with pytest.raises(UsageError, match=message):
            split(table, tmp_path / "out", train="0.5", images=tmp_path / "photos", **options)
    with pytest.raises(UsageError, match="`--label-column` is for tables"):
        split(flat, tmp_path / "out", train="0.5", label_column=["x"])
    (tmp_path / "divided.csv").write_text("image,label,split\n0-0,a,train\n")
    with pytest.raises(UsageError, match=r"is divided by its column 'split'.*`--split-column ''`"):
        split(tmp_path / "divided.csv", tmp_path / "out", train="0.5", images=tmp_path / "photos")


def test_a_table_that_is_divided_is_divided_anew_without_its_column(tmp_path):
    for number in range(8):
        write_image(tmp_path / f"{number}.png")
    lines = [f"test,{number}.png,{'ab'[number % 2]}" for number in range(8)]
    (tmp_path / "old.csv").write_text("\n".join(["Split,image,label", *lines]))

    split(tmp_path / "old.csv", tmp_path / "out", train="0.5", test="0.5", split_column="")

    rows = rows_in(tmp_path / "out" / "train.csv")
    assert len(rows) == 4
    assert list(rows[0]) == ["image", "label"]
