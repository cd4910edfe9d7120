import io
import os
import pickle
import threading

import numpy as np
import pytest
from kerasxfer_serving import Manifest, Predictor
from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.runtime.resources import available_cores
from PIL import Image


@pytest.fixture(scope="module")
def predictor(model):
    with Predictor(model, device="cpu", batch_size=4) as predictor:
        yield predictor


@pytest.fixture(scope="module")
def images(tmp_path_factory, draw_colours):
    return draw_colours(tmp_path_factory.mktemp("images"), 23)


def test_answers_come_in_the_order_given(predictor, images):
    paths = sorted(images, reverse=True)
    predictions = predictor.predict(paths)
    assert predictions.paths == paths
    assert predictions.labels == [images[path] for path in paths]
    assert predictions.status == ["ok"] * 23
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-6)


def test_probabilities_are_the_models(predictor, images):
    path = next(iter(images))
    pixels = predictor.manifest.policy.load(path, (8, 10))
    scores = np.exp(pixels.mean(axis=(0, 1)) / 255 * 8)
    np.testing.assert_allclose(predictor.predict(path).probabilities[0], scores / scores.sum(), atol=1e-6)


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "file", "image", "array", "grey array"])
def test_one_image_of_every_kind(predictor, tmp_path, kind):
    image = Image.new("RGB", (20, 10), (10, 240, 10))
    image.save(tmp_path / "green.png")
    source = {
        "path": tmp_path / "green.png",
        "str": str(tmp_path / "green.png"),
        "bytes": (tmp_path / "green.png").read_bytes(),
        "file": io.BytesIO((tmp_path / "green.png").read_bytes()),
        "image": image,
        "array": np.asarray(image),
        "grey array": np.asarray(image)[..., 1],
    }[kind]
    predictions = predictor.predict(source)
    assert len(predictions) == 1
    assert predictions.sizes == [(20, 10)]
    if kind != "grey array":
        assert predictions.labels == ["green"]


def test_an_array_of_images_is_many(predictor):
    images = np.zeros((6, 12, 9, 3), np.uint8)
    images[np.arange(6), :, :, [0, 1, 2, 2, 1, 0]] = 250
    assert predictor.predict(images).labels == ["red", "green", "blue", "blue", "green", "red"]


def test_nothing_in_nothing_out(predictor):
    predictions = predictor.predict([])
    assert len(predictions) == 0
    assert predictions.labels == []
    assert list(predictions.rows()) == []


def test_a_bad_image_is_its_own_row(predictor, images):
    paths = list(images)
    mixed = [paths[0], "no such.jpg", paths[1], b"", paths[2], paths[3]]
    predictions = predictor.predict(mixed)
    assert predictions.status == ["ok", "not_found", "ok", "empty", "ok", "ok"]
    good = [images[path] for path in paths[:4]]
    assert predictions.labels == [good[0], None, good[1], None, good[2], good[3]]
    assert np.isnan(predictions.probabilities[[1, 3]]).all()
    assert predictions.sizes[1] is None
    assert "no such.jpg" in predictions.messages[1]


def test_every_kind_of_bad_and_odd_file_has_its_row(predictor, zoo):
    predictions = predictor.predict([case.path for case in zoo])
    assert predictions.paths == [os.fspath(case.path) for case in zoo]
    for index, case in enumerate(zoo):
        assert predictions.status[index] == (case.code or "ok"), case.path
        assert predictions.sizes[index] == case.size, case.path
        assert (predictions.labels[index] is None) == (case.code is not None), case.path
        assert np.isfinite(predictions.probabilities[index]).all() == (case.code is None), case.path
        assert bool(predictions.messages[index]) == (case.code is not None or "animated" in predictions.messages[index])


def test_only_bad_images(predictor):
    predictions = predictor.predict([b"", b"no image"])
    assert predictions.status == ["empty", "not_an_image"]
    assert predictions.probabilities.shape == (2, 3)


def test_an_animation_is_flagged(predictor, zoo):
    (path,) = (case.path for case in zoo if case.path.name == "animated.gif")
    predictions = predictor.predict(path)
    assert predictions.status == ["ok"]
    assert predictions.messages == ["animated: the first frame was taken"]


def test_a_sigmoid_unit_gives_two_columns(tmp_path, write_model):
    weights = [[4.0], [-4.0], [0.0]]
    path = write_model(tmp_path / "sigmoid.onnx", class_names=("other", "red"), activation="Sigmoid", weights=weights)
    images = np.zeros((2, 8, 10, 3), np.uint8)
    images[0, ..., 0] = images[1, ..., 1] = 255
    predictions = Predictor(path, device="cpu").predict(images)
    assert predictions.labels == ["red", "other"]
    one = 1 / (1 + np.exp(-4))
    np.testing.assert_allclose(predictions.probabilities, [[1 - one, one], [one, 1 - one]], atol=1e-6)


def test_features_are_the_input_of_the_last_dense_layer(model, images):
    path = next(iter(images))
    predictor = Predictor(model, device="cpu", features=True)
    predictions = predictor.predict([path, b""])
    pixels = predictor.manifest.policy.load(path, (8, 10))
    np.testing.assert_allclose(predictions.features[0], pixels.mean(axis=(0, 1)) / 255, atol=1e-5)
    assert np.isnan(predictions.features[1]).all()


def test_an_answer_that_is_no_number_is_not_ok(tmp_path, write_model):
    path = write_model(tmp_path / "nan.onnx", weights=np.eye(3) * 1e38, activation="Softmax", scale=1e30)
    predictions = Predictor(path, device="cpu").predict(np.full((1, 8, 10, 3), 255, np.uint8))
    assert predictions.status == ["not_finite"]
    assert predictions.labels == [None]


def test_a_model_with_other_columns_than_classes_is_refused(tmp_path, write_model):
    path = write_model(tmp_path / "two.onnx", class_names=("a", "b"), weights=np.eye(3))
    with pytest.raises(ModelError, match="3 columns"):
        Predictor(path, device="cpu").predict(np.zeros((8, 10, 3), np.uint8))


def test_a_model_without_manifest_asks_for_what_it_needs(tmp_path, write_model):
    path = write_model(tmp_path / "foreign.onnx", manifest=False)
    with pytest.raises(ModelError, match="--preprocess"):
        Predictor(path, device="cpu")


def test_the_hash_is_checked(model):
    with pytest.raises(ModelError, match="SHA-256"):
        Predictor(model, sha256="0" * 64)


def test_batch_size_is_at_least_one(model):
    with pytest.raises(ValueError, match="batch_size=0"):
        Predictor(model, batch_size=0)


def test_streaming_runs_with_one_thread_each_and_one_batch_with_all(model, images):
    for device in ("auto", "cpu"):
        predictor = Predictor(model, device=device, batch_size=4)
        if predictor.device != "cpu":
            pytest.skip("there is a GPU")
        assert predictor.session.threads == available_cores()
        predictor.predict(list(images))
        assert {threads: session.threads for (threads, _), session in predictor._sessions.items()} == {
            1: 1,
            available_cores(): available_cores(),
        }


def test_a_pickled_predictor_predicts_the_same(predictor, images):
    twin = pickle.loads(pickle.dumps(predictor))
    assert twin.batch_size == 4
    np.testing.assert_array_equal(
        twin.predict(list(images)).probabilities, predictor.predict(list(images)).probabilities
    )


def test_many_threads_share_a_predictor(predictor, images):
    paths = list(images)
    answers = {}

    def work(offset):
        turned = paths[offset:] + paths[:offset]
        answers[offset] = predictor.predict(turned).labels == [images[path] for path in turned]

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(range(8), True)


def test_rows_have_the_stated_columns(predictor, images):
    from kerasxfer_serving.outputs.predictions import columns

    predictions = predictor.predict([*list(images)[:2], b""])
    assert isinstance(predictions, Predictions)
    rows = list(predictions.rows(2, all_probabilities=True))
    names = list(columns(predictions.class_names, 2, all_probabilities=True))
    assert [list(row) for row in rows] == [names] * 3
    assert names[:7] == ["path", "status", "message", "label", "probability", "label_2", "probability_2"]
    assert rows[0]["probability"] >= rows[0]["probability_2"]
    assert rows[0]["probability"] == pytest.approx(max(rows[0]["probabilities"]))
    assert rows[2]["label"] is rows[2]["probability"] is rows[2]["width"] is rows[2]["probabilities"] is None


def test_top_k_is_at_most_all_classes(predictor, images):
    (row,) = predictor.predict(next(iter(images))).rows(9)
    assert {row["label"], row["label_2"], row["label_3"]} == {"red", "green", "blue"}
    assert "label_4" not in row


def test_a_batch_beyond_the_memory_is_refused(tmp_path, write_model):
    path = write_model(tmp_path / "model.onnx", size=("height", "width"), manifest=False)
    manifest = Manifest(class_names=("a", "b", "c"), image_size=(16_384, 16_384))
    with pytest.raises(ModelError, match=r"A batch of 1000 images of 16384 × 16384 takes 4\.0 TB"):
        Predictor(path, device="cpu", manifest=manifest, batch_size=1000)
