"""From label files as others write them to the rows of a served model."""

import keras
import kerasxfer_serving
import numpy as np
import pytest
from kerasxfer_serving.errors import KerasxferError
from label_files import COUNT, KINDS, LABEL_FILES
from PIL import Image

import kerasxfer
from kerasxfer.data.tables.columns import TableOptions
from kerasxfer.export.check import check_file

SIZE = (32, 32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six photos: cats are red, dogs are blue."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "photos").mkdir()
    for number, kind in enumerate(KINDS):
        colour = (200 + number, 20, 20) if kind == "cat" else (20, 20, 200 + number)
        Image.new("RGB", (40, 40), colour).save(folder / "photos" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def served(photos):
    """A model trained from a table through the cache, and its exported file."""
    table, root = LABEL_FILES["kaggle-ids"].write(photos)
    train = kerasxfer.ImageTable(table, SIZE, 6, root=root, seed=0)
    backbone = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Conv2D(4, 1)])
    backbone.trainable = False
    model = kerasxfer.image_classifier(backbone, train.class_names, SIZE, preprocess="rescale", dropout=0.0)
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    kerasxfer.BottleneckCache(photos / "cache", verbose=0).fit(model, train, epochs=60, verbose=0)
    exported = kerasxfer.export_onnx(
        model,
        photos / "model.onnx",
        check=table,
        table=TableOptions(root=str(root)),
        verbose=False,
    )
    return model, exported


@pytest.mark.parametrize("name", LABEL_FILES)
def test_the_served_rows_are_the_labels_of_the_file(photos, served, name):
    model, exported = served
    table, root = LABEL_FILES[name].write(photos)

    images = kerasxfer.ImageTable(table, SIZE, root=root, shuffle=False)
    rows = kerasxfer_serving.Predictor(exported.file.path).predict([images.root / path for path in images.paths])

    assert model.evaluate(images, verbose=0, return_dict=True)["accuracy"] == 1
    assert list(rows.labels) == [images.class_names[label] for label in images.labels] == KINDS


def test_the_export_and_the_check_compare_every_row_of_a_table(photos, served):
    model, exported = served
    table, root = LABEL_FILES["one-hot"].write(photos)

    again = check_file(exported.file.path, model, table, table=TableOptions(root=str(root)))

    assert exported.check.pictures == again.parity.pictures == COUNT
    assert exported.check.file_accuracy.value == again.parity.file_accuracy.value == 1
    assert again.failure is None
    assert again.parity.max_difference <= 1e-5


def test_a_table_of_other_labels_is_refused(photos, served, tmp_path):
    model, exported = served
    (tmp_path / "birds.csv").write_text(f"path,label\n{photos}/photos/0.png,owl\n")

    with pytest.raises(KerasxferError, match="must name every label"):
        check_file(exported.file.path, model, tmp_path / "birds.csv")


def test_int8_is_calibrated_on_images_of_a_table_without_labels(photos, served, tmp_path):
    model, _ = served
    (tmp_path / "images.csv").write_text("path\n" + "".join(f"{photos}/photos/{i}.png\n" for i in range(COUNT)))

    exported = kerasxfer.export_onnx(
        model, tmp_path / "int8.onnx", precision="int8", calibration=tmp_path / "images.csv", verbose=False
    )

    assert exported.manifest.calibration["pictures"] == COUNT
    assert np.isfinite(exported.check.max_difference)
