"""Tables as people have them, each read from its file to the batches."""

import pickle

import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError
from label_files import COLUMNS, COUNT, FRAMES, KINDS, LABEL_FILES, csv, frame
from PIL import Image

from kerasxfer import ImageTable
from kerasxfer.data.image_files import UnreadableImagesError
from kerasxfer.layers import Augmentation


@pytest.fixture
def photos(tmp_path):
    """A folder with `photos/0.png` to `photos/5.png`; red tells the number."""
    (tmp_path / "photos").mkdir()
    for number in range(COUNT):
        Image.new("RGB", (12, 10), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding)
    return path


def numbers(images):
    return [int(image[0, 0, 0]) for image in images]


def opened(table, **options):
    return ImageTable(table, (4, 6), 4, shuffle=False, **options)


def test_rows_come_in_the_table_s_order_with_their_labels(photos):
    order = [3, 0, 5, 1]
    table = write(photos / "labels.csv", csv("label,image", [f"{KINDS[i]},photos/{i}.png" for i in order]))

    images, labels = opened(table)[0]

    assert numbers(images) == order
    assert images.shape == (4, 4, 6, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    assert labels.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("name", LABEL_FILES)
def test_what_others_write_is_read_as_it_comes(photos, name):
    table, root = LABEL_FILES[name].write(photos)

    data = opened(table, root=root)

    assert data.class_names == ["cat", "dog"]
    assert [number for index in range(len(data)) for number in numbers(data[index][0])] == list(range(COUNT))
    assert data.labels.tolist() == [0, 1] * 3


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_and_parquet(photos, kind):
    data = opened(frame(kind, photos), root=photos)

    assert numbers(data[0][0]) == [0, 1, 2, 3]
    assert data.labels.tolist() == [0, 1] * 3


def test_the_columns_that_were_found_are_told_and_others_can_be_named(photos):
    table = write(photos / "labels.csv", csv("id,file_name,breed", [f"9,photos/{i}.png,{KINDS[i]}" for i in range(4)]))

    data = opened(table, label_column="breed")

    assert data.columns.found == ("images in column 'file_name'",)
    assert data.columns.labels == ("breed",)
    with pytest.raises(UsageError, match=r"no column .* those of labels .*`label_column`.*'id', 'file_name', 'breed'"):
        opened(table)
    with pytest.raises(UsageError, match=r"`label_column` must be a column.*'bread'"):
        opened(table, label_column="bread")


def test_labels_that_are_numbers_sort_as_numbers_and_may_have_names(photos):
    table = {"path": COLUMNS["path"], "label": [10, 2, 2, 1, 1, 10]}

    assert opened(table, root=photos).class_names == ["1", "2", "10"]
    assert opened(table, root=photos).labels.tolist() == [2, 1, 1, 0, 0, 2]
    named = opened({**table, "label": ["1", "0", "0", "1", "1", "1"]}, root=photos, class_names=["cat", "dog"])
    assert named.class_names == ["cat", "dog"]
    assert named.labels.tolist() == [1, 0, 0, 1, 1, 1]


def test_class_names_keep_their_order_and_must_hold_every_label(photos):
    data = opened(COLUMNS, root=photos, class_names=["dog", "owl", "cat"])

    assert data.labels.tolist() == [2, 0] * 3
    with pytest.raises(UsageError, match=r"`class_names` must name every label.*\['cat', 'owl'\]"):
        opened(COLUMNS, root=photos, class_names=["cat", "owl"])


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(["cat|outdoor", "dog", "", "outdoor | dog"], id="text"),
        pytest.param(["cat;outdoor", "dog", "", "outdoor;dog"], id="semicolons"),
        pytest.param([["cat", "outdoor"], ["dog"], [], ["outdoor", "dog"]], id="lists"),
        pytest.param(['["cat", "outdoor"]', "dog", None, '{"choices": ["outdoor", "dog"]}'], id="json"),
    ],
)
def test_any_number_of_labels(photos, cells):
    data = opened({"path": COLUMNS["path"][:4], "tags": cells}, root=photos, label_mode="multi_hot")

    _, targets = data[0]

    assert data.class_names == ["cat", "dog", "outdoor"]
    assert targets.dtype == np.float32
    assert targets.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 1, 1]]
    assert data.labels.dtype == bool


def test_a_separator_can_be_said_and_must_be_where_it_is_not_clear(photos):
    table = {"path": COLUMNS["path"][:2], "tags": ["clear primary", "cloudy"]}
    assert opened(table, root=photos, label_mode="multi_hot", separator=" ").num_classes == 3

    with pytest.raises(UsageError, match="not clear what separates"):
        opened({**table, "tags": ["a|b", "c;d"]}, root=photos, label_mode="multi_hot")


def test_columns_of_0_and_1_as_labels(photos):
    table = {"path": COLUMNS["path"], "sunny": [1, 0, 1, 0, 0, 1], "cat": [1, 1, 0, 0, 0, 1], "age": range(COUNT)}

    data = opened(table, root=photos, label_mode="multi_hot", label_column=["sunny", "cat"])

    assert data.class_names == ["sunny", "cat"]
    assert data.targets([0, 1, 3]).tolist() == [[1, 1], [0, 1], [0, 0]]
    with pytest.raises(UsageError, match=r"4 row\(s\).*say `label_mode='multi_hot'`"):
        opened(table, root=photos, label_column=["sunny", "cat"])
    with pytest.raises(UsageError, match=r"Column 'age' .* must hold 0 and 1. Received: 2"):
        opened(table, root=photos, label_mode="multi_hot", label_column=["sunny", "age"])


def test_several_labels_are_not_taken_for_one(photos):
    with pytest.raises(UsageError, match=r"look like several: 'cat\|outdoor'"):
        opened({"path": COLUMNS["path"][:2], "label": ["cat|outdoor", "dog"]}, root=photos)
    with pytest.raises(UsageError, match=r"must have one label.*row 2, which has 2: say `label_mode='multi_hot'`"):
        opened({"path": COLUMNS["path"][:2], "label": [["cat"], ["dog", "cat"]]}, root=photos)
    with pytest.raises(UsageError, match=r"must have one label. 1 row\(s\) .* row 2, which has 0"):
        opened({"path": COLUMNS["path"][:2], "label": ["cat", None]}, root=photos)


def test_weights_are_the_third_element_of_a_batch(photos):
    table = COLUMNS | {"w": [1, 2, "0.5", 0, 1, 1]}

    _, _, weights = opened(table, root=photos, weight_column="w")[0]

    assert weights.tolist() == [1, 2, 0.5, 0]
    assert weights.dtype == np.float32
    with pytest.raises(UsageError, match="Weights must be numbers"):
        opened(COLUMNS | {"w": [1, -2, 1, 1, 1, 1]}, root=photos, weight_column="w")


def test_a_column_of_subsets_is_honoured(photos):
    table = COLUMNS | {"split": ["train", "Val", "test", "training", "train", "train"]}

    data = opened(table, root=photos, subset="training")

    assert data.paths == [f"photos/{i}.png" for i in (0, 3, 4, 5)]
    assert data.subset_counts == {"training": 4, "validation": 1, "test": 1}
    assert opened(table, root=photos, subset="test").paths == ["photos/2.png"]
    assert len(opened(table, root=photos).paths) == COUNT
    with pytest.raises(UsageError, match="which rows are for validation"):
        opened(table, root=photos, subset="training", validation_split=0.5, seed=0)
    with pytest.raises(UsageError, match=r"train, validation and test.*'fold1'"):
        opened(COLUMNS | {"split": ["fold1"] * COUNT}, root=photos)


def test_a_column_of_subsets_can_be_ignored(photos):
    flags = {"path": COLUMNS["path"], "cat": [1, 0] * 3, "dog": [0, 1] * 3, "split": ["fold1"] * COUNT}
    for table in (COLUMNS | {"split": ["test"] * COUNT}, flags):
        parts = [
            opened(table, root=photos, split_column="", validation_split=0.5, seed=0, subset=subset)
            for subset in ("training", "validation")
        ]
        assert parts[0].class_names == ["cat", "dog"]
        assert sorted(parts[0].paths + parts[1].paths) == COLUMNS["path"]


def test_a_split_is_drawn_from_the_rows_for_training_alone(photos):
    table = COLUMNS | {"split": ["train"] * 4 + ["test"] * 2}
    options = {"root": photos, "validation_split": 0.5, "seed": 1}

    training, validation = (opened(table, subset=subset, **options) for subset in ("training", "validation"))

    assert sorted(training.paths + validation.paths) == [f"photos/{i}.png" for i in range(4)]
    assert sorted(validation.labels) == [0, 1]
    assert "2 of 4 images (50.0%)" in str(validation.division)


def test_images_that_are_not_there_are_known_at_once_or_left_out(photos):
    table = {"path": ["photos/0.png", "photos/9.png", "photos/1.png"], "label": ["a", "b", "b"]}

    with pytest.raises(UsageError, match=r"1 of 3 images in column 'path'.*'photos/9.png'.*`root`.*on_error='skip'"):
        opened(table, root=photos)
    data = opened(table, root=photos, on_error="skip")
    assert data.paths == ["photos/0.png", "photos/1.png"]
    assert [(bad.path, bad.code) for bad in data.skipped] == [("photos/9.png", "not_found")]
    with pytest.raises(UsageError, match=r"3 of 3 images.*Folders in '.*': photos"):
        opened(write(photos / "labels.csv", csv("path,label", ["7.png,a"] * 3)), on_error="skip")


def test_an_image_that_cannot_be_read_is_named_when_it_is_met(photos):
    (photos / "photos" / "1.png").write_bytes(b"no image")

    data = opened(COLUMNS, root=photos)

    with pytest.raises(UnreadableImagesError, match=r"1 image\(s\).*\n  photos/1.png \(not_an_image\)"):
        data[0]


def test_a_name_without_suffix_must_be_that_of_one_image(photos):
    Image.new("RGB", (4, 4)).save(photos / "photos" / "3.jpg")

    with pytest.raises(UsageError, match=r"'3' is the name of 2 images.*3.jpg, 3.png"):
        opened({"id": range(COUNT), "label": KINDS}, root=photos / "photos")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param("none.csv", "does not exist", id="no-file"),
        pytest.param("photos", "which is no table", id="folder"),
        pytest.param(7, "Received: int", id="number"),
        pytest.param({"path": ["a", "b"], "label": ["x"]}, "one length.*'path': 2, 'label': 1", id="lengths"),
        pytest.param({"label": ["x"]}, "no column that is called as those of images", id="no-images"),
        pytest.param({"path": ["photos/0.png", None], "label": ["x", "y"]}, "Row 2 .* path of an image", id="empty"),
        pytest.param({"path": [], "label": []}, "has no rows", id="no-rows"),
    ],
)
def test_what_is_no_table(photos, table, message, monkeypatch):
    monkeypatch.chdir(photos)
    with pytest.raises(UsageError, match=message):
        opened(table)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param("a.csv", "path,label\na.png,x,y\n", "Row 2 .* has 3 cells.*quotes", id="cells"),
        pytest.param("a.csv", "path,label,label\na.png,x,y\n", "names of their own.*'label' twice", id="names"),
        pytest.param("a.jsonl", '{"path": "a.png"\n', "Line 1 .* is not JSON", id="json"),
        pytest.param("a.jsonl", "[1]\n", "must be an object", id="json-list"),
        pytest.param("a.parquet", "path", "is not a Parquet file", id="parquet"),
    ],
)
def test_damaged_files_are_told_by_row(photos, name, text, message):
    with pytest.raises(UsageError, match=message):
        opened(write(photos / name, text))


def test_order_and_augmentation_are_those_of_an_epoch_in_every_process(photos):
    options = {"seed": 3, "augmentation": Augmentation(horizontal_flip=True, rotation_range=20)}
    data = ImageTable(COLUMNS, (4, 6), 4, root=photos, **options)

    again = pickle.loads(pickle.dumps(data))

    assert sorted(data.order(0)) == list(range(COUNT))
    assert data.order(0).tolist() != data.order(1).tolist()
    np.testing.assert_array_equal(data[0][0], again[0][0])
