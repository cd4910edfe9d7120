import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError

import kerasxfer
from kerasxfer import Stage


@pytest.fixture(scope="module")
def data(shapes):
    return kerasxfer.ImageFolder(shapes, (32, 32), shuffle=False, group_pattern=r"(\d+)\.png$")


def classifier(data, learning_rate=1e-2):
    keras.utils.set_random_seed(0)
    model = kerasxfer.image_classifier("DemoVGG", data.class_names, (32, 32))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.learning_rate = learning_rate
    return model


def test_a_frozen_backbone_is_judged_by_heads_that_have_not_seen_the_image(data, cache, choice):
    found = kerasxfer.cross_validate("DemoVGG", data, cache=cache)
    assert found.metric == "accuracy"
    assert found.score.low < choice.results[0].score.value < found.score.high
    assert str(found).startswith(f"accuracy {found.score.value:.4f} (")
    assert found.probabilities.shape == (len(data.paths), data.num_classes)


def test_no_group_is_in_two_folds(data, cache):
    found = kerasxfer.cross_validate(classifier(data), data, folds=3, cache=cache)
    for group in np.unique(data.rows.groups):
        assert len(np.unique(found.fold[data.rows.groups == group])) == 1
    assert len(np.unique(found.fold)) == 3


def test_a_backbone_that_trains_is_refused(data):
    model = classifier(data)
    kerasxfer.layer_groups(model).blocks[-1].layers[0].trainable = True
    with pytest.raises(UsageError, match=r"a model that trains block5.*`stages`"):
        kerasxfer.cross_validate(model, data)


def test_stages_are_trained_in_each_fold_from_the_same_weights(data, cache):
    model = classifier(data)
    before = [np.array(weight) for weight in model.get_weights()]
    stages = [Stage(epochs=15), Stage("block5", epochs=1, learning_rate=1e-4)]
    found = kerasxfer.cross_validate(model, data, folds=2, stages=stages, cache=cache)
    assert found.score.value > 2 / data.num_classes
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert not any(layer.trainable for layer in kerasxfer.layer_groups(model).blocks[-1].layers)


@pytest.mark.parametrize(
    ("compiled", "stage", "message"),
    [(False, Stage(epochs=1), "must be compiled"), (True, Stage(patience=2), "must have `epochs`")],
    ids=["not compiled", "no epochs"],
)
def test_stages_need(compiled, stage, message, data):
    model = classifier(data) if compiled else kerasxfer.image_classifier("DemoVGG", data.class_names, (32, 32))
    with pytest.raises(UsageError, match=message):
        kerasxfer.cross_validate(model, data, folds=2, stages=[stage])
