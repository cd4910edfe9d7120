import os
import pickle
import unicodedata

import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.images import IMAGE_SUFFIXES
from kerasxfer_serving.runtime import resources
from PIL import Image

from kerasxfer import ImageFolder
from kerasxfer.data.image_files import UnreadableImagesError
from kerasxfer.layers import Augmentation

COUNTS = {"ant": 7, "bee": 5, "cat": 9}
TOTAL = sum(COUNTS.values())


@pytest.fixture
def pets(tmp_path):
    """Class folders whose images are of one colour each: red tells the class, green the number."""
    for label, (name, count) in enumerate(COUNTS.items()):
        for number in range(count):
            path = tmp_path / name / ("young" if number % 2 else "") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 10), (label, number, 0)).save(path)
    return tmp_path


def row_names(images):
    """(class, number) of each image, read off its pixels."""
    return [tuple(int(value) for value in image[0, 0, :2]) for image in images]


def test_rows_are_sorted_by_class_and_path_and_batches_hold_their_pixels(pets):
    data = ImageFolder(pets, (4, 6), batch_size=8, shuffle=False)

    images, labels = data[0]

    assert data.class_names == ["ant", "bee", "cat"]
    assert data.paths[:4] == ["ant/0.png", "ant/2.png", "ant/4.png", "ant/6.png"]
    assert data.paths[4:7] == ["ant/young/1.png", "ant/young/3.png", "ant/young/5.png"]
    assert images.shape == (8, 4, 6, 3)
    assert images.dtype == np.uint8
    assert row_names(images)[:5] == [(0, 0), (0, 2), (0, 4), (0, 6), (0, 1)]
    assert labels.tolist() == [0] * 7 + [1]
    assert [len(data[index][0]) for index in range(len(data))] == [8, 8, 5]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("int", np.array([0, 2], "int32")),
        ("categorical", np.array([[1, 0, 0], [0, 0, 1]], "float32")),
    ],
)
def test_label_modes(pets, mode, expected):
    targets = ImageFolder(pets, (4, 4), label_mode=mode).targets([0, -1])

    assert targets.dtype == expected.dtype
    np.testing.assert_array_equal(targets, expected)


def test_binary_labels_are_a_column_for_two_classes_only(pets):
    with pytest.raises(ValueError, match=r"`label_mode='binary'` needs exactly two.*\['ant', 'bee', 'cat'\]"):
        ImageFolder(pets, (4, 4), label_mode="binary")
    for path in sorted((pets / "cat").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (pets / "cat").rmdir()

    targets = ImageFolder(pets, (4, 4), label_mode="binary").targets([0, -1])

    np.testing.assert_array_equal(targets, np.array([[0], [1]], "float32"))
    assert targets.dtype == np.float32


def test_each_epoch_is_its_own_permutation_of_samples_fixed_by_the_seed(pets):
    data = ImageFolder(pets, (4, 4), seed=3)

    orders = [data.order(epoch).tolist() for epoch in range(3)]

    assert all(sorted(order) == list(range(TOTAL)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders == [ImageFolder(pets, (4, 4), seed=3).order(epoch).tolist() for epoch in range(3)]
    assert orders[0] != ImageFolder(pets, (4, 4), seed=4).order(0).tolist()


def test_batches_follow_the_order_of_the_epoch_that_was_set(pets):
    data = ImageFolder(pets, (4, 4), batch_size=4, seed=3)
    data[0], data[1]  # the next batch of epoch 0 is being decoded now
    data.set_epoch(5)

    images, labels = data[2]

    expected = data.order(5)[8:12]
    np.testing.assert_array_equal(images, data.load(expected))
    np.testing.assert_array_equal(labels, data.labels[expected])


def test_any_order_of_indices_gives_the_same_batches(pets):
    data = ImageFolder(pets, (4, 4), batch_size=4, seed=3)
    expected = [data.load(data.batch_rows(index)) for index in range(len(data))]

    for index in [0, 1, 4, 5, 2, 3, 3, 0]:
        np.testing.assert_array_equal(data[index][0], expected[index])
    with pytest.raises(IndexError, match="0 … 5"):
        data[6]


def test_without_a_seed_one_is_drawn_and_kept(pets):
    first, second = ImageFolder(pets, (4, 4)), ImageFolder(pets, (4, 4))

    assert first.seed != second.seed
    np.testing.assert_array_equal(ImageFolder(pets, (4, 4), seed=first.seed).order(0), first.order(0))


def test_split_divides_every_class_alike_without_overlap(pets):
    subsets = [
        ImageFolder(pets, (4, 4), seed=1, validation_split=0.3, subset=name) for name in ("training", "validation")
    ]

    training, validation = (list(subset.paths) for subset in subsets)
    assert np.bincount(subsets[1].labels).tolist() == [2, 2, 3]
    assert not set(training) & set(validation)
    assert sorted(training + validation) == sorted(ImageFolder(pets, (4, 4)).paths)
    again = ImageFolder(pets, (4, 4), seed=1, validation_split=0.3, subset="validation")
    other = ImageFolder(pets, (4, 4), seed=2, validation_split=0.3, subset="validation")
    assert again.paths == validation != other.paths


def test_a_small_class_gives_one_image_to_each_side_and_a_single_one_trains(tmp_path):
    for name, count in {"one": 1, "two": 2}.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (4, 4)).save(tmp_path / name / f"{number}.png")

    validation = ImageFolder(tmp_path, (4, 4), seed=0, validation_split=0.01, subset="validation")

    assert validation.labels.tolist() == [1]


def test_class_weight_counts_every_class_the_same(pets):
    data = ImageFolder(pets, (4, 4))

    weight = data.class_weight()

    assert weight == pytest.approx({0: 21 / (3 * 7), 1: 21 / (3 * 5), 2: 21 / (3 * 9)})
    totals = [weight[label] * count for label, count in enumerate(COUNTS.values())]
    assert totals == pytest.approx([7.0] * 3)


def test_an_empty_class_keeps_its_index_and_is_named(pets):
    (pets / "bat").mkdir()

    with pytest.warns(UserWarning, match="without images.*bat"):
        data = ImageFolder(pets, (4, 4))

    assert data.class_names == ["ant", "bat", "bee", "cat"]
    assert sorted(set(data.labels.tolist())) == [0, 2, 3]
    assert sorted(data.class_weight()) == [0, 2, 3]


def test_class_names_give_the_order_of_the_indices(pets):
    data = ImageFolder(pets, (4, 4), class_names=["cat", "ant", "bee"], shuffle=False)

    assert data.paths[0].startswith("cat/")
    assert data.labels[0] == 0
    with pytest.raises(ValueError, match=r"`class_names` must name exactly the folders.*\['cat', 'dog'\]"):
        ImageFolder(pets, (4, 4), class_names=["cat", "dog"])


def test_only_visible_images_count_and_links_are_followed(pets, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    Image.new("RGB", (4, 4)).save(elsewhere / "x.JPG")
    (pets / "ant" / "linked").symlink_to(elsewhere)
    (pets / "ant" / "loop").symlink_to(pets / "ant")
    (pets / "ant" / "notes.txt").write_text("no image")
    (pets / "ant" / ".hidden.png").write_bytes(b"")
    (pets / ".cache").mkdir()

    paths = ImageFolder(pets, (4, 4)).paths

    assert len(paths) == TOTAL + 1
    assert "ant/linked/x.JPG" in paths


@pytest.fixture
def spoilt(pets, zoo):
    """`pets` with every bad file of the zoo in class `bee`; and the codes by relative path."""
    codes = {}
    for case in zoo:
        if case.code is not None and case.path.suffix in IMAGE_SUFFIXES and case.path.is_file():
            name = f"bee/zoo {len(codes)}{case.path.suffix}"
            (pets / name).symlink_to(case.path)
            codes[name] = case.code
    (pets / "cat" / "gone.jpg").symlink_to(pets / "nowhere.jpg")
    codes["cat/gone.jpg"] = "broken_link"
    assert len(codes) > 3
    return pets, codes


def test_unreadable_images_are_all_named_at_once(spoilt):
    root, codes = spoilt
    data = ImageFolder(root, (4, 4), batch_size=64)

    with pytest.raises(UnreadableImagesError) as caught:
        data[0]

    assert {bad.path: bad.code for bad in caught.value.bad_images} == codes
    assert f"{len(codes)} image(s)" in str(caught.value)
    assert all(f"  {path} ({code})" in str(caught.value) for path, code in codes.items())
    assert "on_error='skip'" in str(caught.value)


def test_unreadable_images_can_be_left_out_and_are_listed(spoilt):
    root, codes = spoilt

    data = ImageFolder(root, (4, 4), batch_size=64, shuffle=False, on_error="skip")

    assert {bad.path: bad.code for bad in data.skipped} == codes
    assert len(data.paths) == len(data.labels) == TOTAL
    images, labels = data[0]
    assert [label for label, _ in row_names(images)] == labels.tolist()


def test_the_split_does_not_depend_on_what_cannot_be_read(spoilt):
    root, codes = spoilt
    kwargs = {"seed": 1, "validation_split": 0.4, "subset": "validation"}

    raising, skipping = (ImageFolder(root, (4, 4), on_error=mode, **kwargs) for mode in ("raise", "skip"))

    assert set(raising.paths) - set(skipping.paths) == {bad.path for bad in skipping.skipped} <= set(codes)


def test_nothing_but_unreadable_images_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "1.jpg").write_bytes(b"no jpeg")

    with pytest.raises(UnreadableImagesError, match=r"ant/1.jpg \(not_an_image\)"):
        ImageFolder(tmp_path, (4, 4), on_error="skip")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"image_size": (0, 4)}, "`image_size` must be"),
        ({"image_size": (4, 4, 3)}, "`image_size` must be"),
        ({"batch_size": 0}, "`batch_size` must be 1 or more"),
        ({"label_mode": "one-hot"}, "`label_mode` must be one of"),
        ({"on_error": "ignore"}, "`on_error` must be"),
        ({"validation_split": 0.2}, "go together"),
        ({"subset": "training"}, "go together"),
        ({"validation_split": 1.0, "subset": "training", "seed": 1}, "between 0 and 1"),
        ({"validation_split": 0.2, "subset": "test", "seed": 1}, "`subset` must be one of"),
        ({"validation_split": 0.2, "subset": "training"}, "needs a `seed`"),
    ],
)
def test_invalid_arguments(pets, kwargs, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(**{"root": pets, "image_size": (4, 4)} | kwargs)


def test_invalid_folders(tmp_path):
    with pytest.raises(ValueError, match="which is not a folder"):
        ImageFolder(tmp_path / "nowhere", (4, 4))
    with pytest.raises(ValueError, match="kerasxfer split"):
        ImageFolder(tmp_path, (4, 4))
    (tmp_path / "ant").mkdir()
    with pytest.raises(ValueError, match="no images"):
        ImageFolder(tmp_path, (4, 4))


def test_augmentation_depends_on_seed_epoch_and_row_alone(pets):
    augmentation = Augmentation(brightness_range=(2.0, 9.0))
    data = ImageFolder(pets, (4, 4), batch_size=4, seed=3, augmentation=augmentation)
    whole = ImageFolder(pets, (4, 4), batch_size=TOTAL, seed=3, augmentation=augmentation, shuffle=False)

    images, _ = data[1]

    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, whole[0][0][data.batch_rows(1)])
    np.testing.assert_array_equal(images, data.load(data.batch_rows(1), epoch=0))
    assert not np.array_equal(images, data.load(data.batch_rows(1), epoch=1))
    assert data.load([0]).dtype == np.uint8


def test_a_copy_in_another_process_gives_the_same_batches(pets):
    data = ImageFolder(pets, (4, 4), batch_size=4, seed=3)
    data[0]

    copy = pickle.loads(pickle.dumps(data))

    np.testing.assert_array_equal(copy[1][0], data[1][0])


def classifier():
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    outputs = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize("shuffle", [False, True])
def test_fit_sees_every_image_once_an_epoch(pets, shuffle):
    data = ImageFolder(pets, (4, 4), batch_size=4, seed=3)

    class SeenNumbers(keras.Model):
        def __init__(self):
            super().__init__()
            self.seen = self.add_weight(shape=(3, 9), initializer="zeros", trainable=False)
            self.dense = keras.layers.Dense(3)

        def call(self, images, training=None):
            if training:
                hot = keras.ops.one_hot(keras.ops.cast(images[:, 0, 0, 0], "int32"), 3)
                number = keras.ops.one_hot(keras.ops.cast(images[:, 0, 0, 1], "int32"), 9)
                self.seen.assign_add(keras.ops.matmul(keras.ops.transpose(hot), number))
            return self.dense(keras.ops.cast(images[:, 0, 0], "float32"))

    model = SeenNumbers()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data, epochs=1, verbose=0, shuffle=shuffle)
    once = keras.ops.convert_to_numpy(model.seen)
    model.fit(data, epochs=2, verbose=0, shuffle=shuffle)

    expected = np.array([[number < count for number in range(9)] for count in COUNTS.values()], "float32")
    np.testing.assert_array_equal(once, expected)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.seen), 3 * expected)


@pytest.mark.parametrize(
    ("batch_size", "steps", "epochs", "passes"),
    [(4, 2, 9, 3), (4, 5, 4, 2), (8, 1, 9, 3), (8, None, 2, 2), (11, 1, 4, 2), (21, None, 3, 3), (21, 1, 3, 3)],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_of_keras_is_no_pass(pets, batch_size, steps, epochs, passes, shuffle):
    """Order and augmentation go by passes. Keras also reads a batch or two on the side, here even a whole pass."""
    data = ImageFolder(pets, (4, 4), batch_size=batch_size, seed=3)
    model = classifier()

    model.fit(data, steps_per_epoch=steps, epochs=epochs, verbose=0, shuffle=shuffle)
    after_fit = data.epoch
    model.evaluate(data, verbose=0)

    assert after_fit == passes
    assert data.epoch == passes + 1


def test_fit_counts_the_epochs_and_evaluate_and_predict_take_the_dataset(pets):
    data = ImageFolder(pets, (4, 4), batch_size=4, seed=3)
    fixed = ImageFolder(pets, (4, 4), batch_size=4, shuffle=False)
    model = classifier()

    model.fit(data, validation_data=fixed, epochs=2, verbose=0, shuffle=False, class_weight=data.class_weight())
    _, accuracy = model.evaluate(fixed, verbose=0)
    predictions = model.predict(fixed, verbose=0)

    assert data.epoch == 2
    assert predictions.shape == (TOTAL, 3)
    assert accuracy == pytest.approx(np.mean(predictions.argmax(1) == fixed.labels))


def test_a_second_dataset_with_the_same_seed_trains_the_same_model(pets):
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        model = classifier()
        model.fit(ImageFolder(pets, (4, 4), batch_size=4, seed=3), epochs=2, verbose=0, shuffle=False)
        weights.append(model.get_weights())

    for first, second in zip(*weights, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


def test_what_systems_put_beside_images_is_left_out_and_said(pets):
    for name in ("__MACOSX/ant/._0.png", "@eaDir/0.png", "ant/@eaDir/0.png/SYNOPHOTO_THUMB.png", ".cache/1.png"):
        draw(pets / name)
    (pets / "ant" / "Thumbs.db").touch()
    (pets / "ant" / "notes.txt").touch()
    draw(pets / "stray.png")

    data = ImageFolder(pets, (4, 4))

    assert data.class_names == ["ant", "bee", "cat"]
    assert len(data.paths) == TOTAL
    assert data.left_out.counts == {
        "system folders": 3,
        "hidden folders": 1,
        "system files": 1,
        ".txt": 1,
        "images outside of the class folders": 1,
    }
    assert "stray.png" in str(data.left_out)


def test_every_suffix_that_is_read_is_taken(tmp_path):
    for number, suffix in enumerate(sorted(IMAGE_SUFFIXES)):
        path = tmp_path / "ant" / f"{number}{suffix.upper() if number % 2 else suffix}"
        path.parent.mkdir(exist_ok=True)
        path.touch()

    data = ImageFolder(tmp_path, (4, 4))

    assert len(data.paths) + data.left_out.counts.total() == len(IMAGE_SUFFIXES)
    assert all("pip install" in reason for reason in data.left_out.counts)


def test_a_class_is_the_same_in_any_spelling_of_its_letters(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for root, name in (("linux", composed), ("mac", decomposed)):
        draw(tmp_path / root / name / "1.png")

    linux, mac = ImageFolder(tmp_path / "linux", (4, 4)), ImageFolder(tmp_path / "mac", (4, 4))

    assert linux.class_names == mac.class_names == [composed]
    assert mac.paths == [f"{decomposed}/1.png"]
    assert mac[0][0].shape == (1, 4, 4, 3)
    assert ImageFolder(tmp_path / "linux", (4, 4), class_names=[decomposed]).class_names == [decomposed]
    draw(tmp_path / "mac" / composed / "2.png")
    with pytest.raises(UsageError, match=r"both written 'café'.*\\u0301"):
        ImageFolder(tmp_path / "mac", (4, 4))


def test_names_that_are_not_utf_8_are_read_for_images_and_refused_for_classes(tmp_path):
    draw(tmp_path / "ant" / os.fsdecode(b"caf\xe9.png"))

    data = ImageFolder(tmp_path, (4, 4))

    assert data[0][0].shape == (1, 4, 4, 3)
    draw(tmp_path / os.fsdecode(b"caf\xe9") / "1.png")
    with pytest.raises(UsageError, match=r"must be UTF-8. Received: 'caf\\udce9'"):
        ImageFolder(tmp_path, (4, 4))


def test_threads_are_as_many_as_the_container_may_use(pets, monkeypatch):
    monkeypatch.setattr(resources, "cgroup_quota", lambda root: 1.5)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)

    assert ImageFolder(pets, (4, 4)).threads == 2
