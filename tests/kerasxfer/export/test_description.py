import keras
import numpy as np
import pytest

from kerasxfer import image_classifier
from kerasxfer.export.description import image_input, make_manifest
from kerasxfer.export.errors import ExportError
from kerasxfer.export.source import open_source

layers = keras.layers
CLASSES = ("cats", "dogs", "newts")


@pytest.fixture
def described(tmp_path):
    def describe_(class_names=None, labelled=(), model=None):
        bare = keras.Sequential([keras.Input((32, 32, 3)), layers.GlobalAveragePooling2D(), layers.Dense(3)])
        source = open_source(model or bare, tmp_path)
        entry = image_input(source, None, None, None)
        options = {"output": "softmax", "columns": 3, "opset": 15, "features": False}
        return make_manifest(source, entry, class_names=class_names, labelled=labelled, **options)

    return describe_


@pytest.mark.parametrize(
    "names",
    [
        list(CLASSES),
        np.array(CLASSES),
        {"newts": 2, "cats": 0, "dogs": 1},
        {0: "cats", 2: "newts", 1: "dogs"},
        ["cats ", " dogs", "newts"],
    ],
)
def test_class_names_come_in_every_form(described, names):
    assert described(names).class_names == CLASSES


def test_the_model_knows_its_classes(described):
    model = image_classifier("DemoVGG", CLASSES, (32, 32), weights=None)
    assert described(model=model).class_names == CLASSES
    assert described(("x", "y", "z"), model=model).class_names == ("x", "y", "z")


def test_folders_name_the_classes_where_there_is_one_for_each(described, tmp_path):
    other, labelled = tmp_path / "other", tmp_path / "labelled"
    for name in CLASSES:
        (labelled / name).mkdir(parents=True)
    (other / "one").mkdir(parents=True)
    assert described(labelled=(None, other, labelled)).class_names == CLASSES
    assert described(labelled=(other, None)).class_names == ("class_0", "class_1", "class_2")


def test_another_number_of_names_is_refused(described):
    with pytest.raises(ExportError, match="must have 3 names"):
        described(("one", "two"))
