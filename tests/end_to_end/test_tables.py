"""From tables as others write them to the rows of a served model."""

import keras
import kerasxfer_serving
import numpy as np
import pytest
from kerasxfer_serving.errors import KerasxferError
from label_files import COUNT, FRAMES, KINDS, LABEL_FILES, write
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
def model():
    """A classifier that has learnt nothing, and its weights."""
    backbone = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Conv2D(4, 1)])
    backbone.trainable = False
    model = kerasxfer.image_classifier(backbone, ["cat", "dog"], SIZE, preprocess="rescale", dropout=0.0)
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def train(photos, model):
    """Trains the model from a table, through the cache, from the weights that it had at first."""
    cache = kerasxfer.BottleneckCache(photos / "cache", verbose=0)
    weights, state = model.get_weights(), None

    def train(table, root):
        nonlocal state
        model.optimizer.build(model.trainable_variables)
        state = state or [np.array(variable) for variable in model.optimizer.variables]
        model.set_weights(weights)
        for variable, value in zip(model.optimizer.variables, state, strict=True):
            variable.assign(value)
        cache.fit(model, kerasxfer.ImageTable(table, SIZE, 6, root=root, seed=0), epochs=30, verbose=0)
        return model

    return train


@pytest.fixture(scope="module")
def served(photos, train):
    """A model trained from a table, and its exported file."""
    table, root = write("kaggle-ids", photos)
    model = train(table, root)
    exported = kerasxfer.export_onnx(
        model,
        photos / "model.onnx",
        check=table,
        table=TableOptions(root=str(root)),
        verbose=False,
    )
    return model, exported


@pytest.mark.parametrize("name", [*LABEL_FILES, *FRAMES])
def test_a_model_of_each_table_is_the_served_one_and_its_rows_are_the_labels(photos, served, train, name):
    table, root = write(name, photos)
    images = kerasxfer.ImageTable(table, SIZE, root=root, shuffle=False)
    rows = kerasxfer_serving.Predictor(served[1].file.path).predict([images.root / path for path in images.paths])

    model = train(table, root)

    np.testing.assert_allclose(rows.probabilities, model.predict(images, verbose=0), atol=1e-5)
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
