import types

import keras
import numpy as np
import pytest

from kerasxfer import BottleneckCache, image_classifier
from kerasxfer.models import ImageClassifier
from kerasxfer.pixel_range import PixelRangeError, check_pixels, checked

LABELS = np.zeros(8, "int32")


@pytest.fixture
def model():  # a new one each time: an error in the middle of `fit` costs a model its variables on JAX
    model = image_classifier("DemoVGG", ["ant", "bee"], (32, 32), weights=None)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("float32")


def spoilt(pixels, kind):
    images = {"rescaled": pixels / 255, "centred": pixels / 127.5 - 1, "wide": pixels.astype("int32") + 45}[kind]
    assert images.min() < 0 or images.max() > 255 or images.max() <= 1
    return images


class Batches(keras.utils.PyDataset):
    def __init__(self, images):
        super().__init__()
        self.images = images

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.images[index * 4 : index * 4 + 4], LABELS[:4]


def generator(images):
    while True:
        yield images[:4], LABELS[:4]


def dataset(images):
    tensorflow = pytest.importorskip("tensorflow")
    return tensorflow.data.Dataset.from_tensor_slices((images, LABELS)).batch(4)


def loader(images):
    data = pytest.importorskip("torch.utils.data")
    return data.DataLoader([(image, label) for image, label in zip(images, LABELS, strict=True)], batch_size=4)


class Named(Batches):
    def __getitem__(self, index):
        images, labels = super().__getitem__(index)
        return {"images": images}, labels


SOURCES = {
    "array": lambda images: images,
    "named array": lambda images: {"images": images},
    "array in a list": lambda images: [images],
    "PyDataset": Batches,
    "named PyDataset": Named,
    "generator": generator,
    "tf.data": dataset,
    "named tf.data": lambda images: dataset(images).map(lambda images, labels: ({"images": images}, labels)),
    "DataLoader": loader,
}
WAYS = {
    "fit": lambda model, data, y: model.fit(data, y, steps_per_epoch=2, verbose=0),
    "evaluate": lambda model, data, y: model.evaluate(data, y, steps=2, verbose=0),
    "predict": lambda model, data, y: model.predict(data, steps=2, verbose=0),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", SOURCES)
def test_what_cannot_be_pixels_is_refused_however_it_comes(model, pixels, source, way):
    images = spoilt(pixels, "rescaled")
    make, y = SOURCES[source], LABELS if "array" in source else None
    WAYS[way](model, make(pixels), y)
    with pytest.raises(Exception, match=r"takes pixels in 0–255"):
        WAYS[way](model, make(images), y)


@pytest.mark.parametrize("kind", ["rescaled", "centred", "wide"])
def test_every_wrong_range_is_named(model, pixels, kind):
    images = spoilt(pixels, kind)
    with pytest.raises(PixelRangeError, match=rf"values from {images.min()} to {images.max()}"):
        model.predict(images, verbose=0)


def test_validation_data_is_looked_at(model, pixels):
    with pytest.raises(PixelRangeError):
        model.fit(pixels, LABELS, validation_data=(pixels / 255, LABELS), verbose=0)
    model.fit(pixels, LABELS, validation_data=Batches(pixels), verbose=0)
    with pytest.raises(PixelRangeError):
        model.fit(pixels, LABELS, validation_data=Batches(pixels / 255), verbose=0)


CACHED = {
    "fit": lambda cache, model, data, y: cache.fit(model, data, y, verbose=0),
    "validation": lambda cache, model, data, y: cache.fit(
        model, np.full((8, 32, 32, 3), 9, "uint8"), LABELS, validation_data=data if y is None else (data, y), verbose=0
    ),
    "evaluate": lambda cache, model, data, y: cache.evaluate(model, data, y, verbose=0),
    "plan": lambda cache, model, data, _: cache.plan(model, data),
    "build": lambda cache, model, data, _: cache.build(model, data),
}
CACHEABLE = {"array": lambda images: images, "PyDataset": Batches, "tf.data": dataset, "DataLoader": loader}


@pytest.mark.parametrize(
    ("way", "source"),
    [*((way, "array") for way in CACHED), *(("build", source) for source in CACHEABLE if source != "array")],
)
def test_a_cache_looks_at_what_it_is_given(model, pixels, tmp_path, way, source):
    data, y = CACHEABLE[source], LABELS if source == "array" else None
    cache = BottleneckCache(tmp_path, verbose=0)
    CACHED[way](cache, model, data(pixels), y)
    with pytest.raises(Exception, match=r"takes pixels in 0–255"):
        CACHED[way](cache, model, data(spoilt(pixels, "rescaled")), y)


@pytest.mark.parametrize("way", ["train_on_batch", "test_on_batch"])
def test_single_batches_are_looked_at(model, pixels, way):
    with pytest.raises(PixelRangeError):
        getattr(model, way)(pixels / 255, LABELS)
    with pytest.raises(PixelRangeError):
        model.predict_on_batch(pixels / 255)
    getattr(model, way)(pixels, LABELS)


def test_dark_and_odd_pixels_pass():
    for values in (
        np.zeros((1, 2, 2, 3), "float32"),
        np.array([0.0, 1.0, 1.0]),  # nearly black
        np.array([0.5, 1.5]),  # resized
        np.array([0, 255], "int64"),
        np.array([0, 255], "uint8"),
        np.zeros((0, 2, 2, 3), "float32"),
    ):
        check_pixels(values)


@pytest.mark.parametrize("values", [[-1], [256], [0.0, np.nan], [0.25, 0.75]])
def test_what_can_be_no_pixel_raises(values):
    with pytest.raises(PixelRangeError):
        check_pixels(np.array(values))


def test_sources_keep_what_they_are(pixels):
    inner = Batches(pixels)
    outer = checked(inner)
    assert checked(outer) is outer
    assert outer.num_batches == 2
    assert np.array_equal(outer[1][0], inner[1][0])
    assert isinstance(checked(generator(pixels)), types.GeneratorType)


def test_a_file_and_a_copy_still_look(model, pixels, tmp_path):
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        loaded = keras.saving.load_model(tmp_path / name, compile=False)
        assert isinstance(loaded, ImageClassifier)
        np.testing.assert_allclose(loaded.predict(pixels, verbose=0), model.predict(pixels, verbose=0), atol=1e-6)
        with pytest.raises(PixelRangeError):
            loaded.predict(pixels / 255, verbose=0)
