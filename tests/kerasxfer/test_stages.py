"""Arguments of a stage."""

import keras
import pytest
from kerasxfer_serving.errors import UsageError

from kerasxfer import Stage
from kerasxfer.unfreezing.stages import ScheduleError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a whole number"),
        ({"epochs": 2.5}, "Received: epochs=2.5"),
        ({"patience": True}, "`patience`"),
        ({"mode": "best"}, "`mode` must be one of auto, min, max"),
        ({"batch_norm": True}, "`batch_norm` must be one of frozen, train"),
        ({"warmup": -1}, "`warmup` must be a number, 0 or above"),
        ({"min_delta": "small"}, "`min_delta`"),
        ({"layer_decay": 2}, "`layer_decay` must be above 0"),
        ({"learning_rate": "fast"}, 'must look like "0.1x"'),
        ({"learning_rate": "-1x"}, 'must look like "0.1x"'),
        ({"learning_rate": 0}, "`learning_rate` must be above 0"),
        ({"learning_rate": [1]}, "`learning_rate` must be a number, a string"),
        ({"unfreeze": True}, "`unfreeze` must be a name"),
        ({"unfreeze": 0}, "a number of blocks"),
        ({"unfreeze": 1.5}, "fraction"),
        ({"unfreeze": []}, "`unfreeze`"),
        ({"freeze": 3}, "`freeze` must be a name, a list of names"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ScheduleError, match=message):
        Stage(**arguments)


def test_a_schedule_error_is_a_value_error_and_a_usage_error():
    assert issubclass(ScheduleError, ValueError)
    assert issubclass(ScheduleError, UsageError)


def test_all_but_the_first_argument_are_by_keyword():
    with pytest.raises(TypeError):
        Stage("block5", 3)


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        (Stage(), "head"),
        (Stage("block5"), "block5"),
        (Stage(["block4", "block5"]), "block4, block5"),
        (Stage(3), "top 3"),
        (Stage(0.25), "top 25%"),
        (Stage("block5", name="last"), "last"),
    ],
)
def test_names(stage, name):
    assert stage.name == name


@pytest.mark.parametrize(
    ("stage", "least"),
    [(Stage(epochs=5), 5), (Stage(patience=3), 4), (Stage(epochs=2, patience=3), 2), (Stage(), 1)],
)
def test_how_long_a_stage_lasts_at_least(stage, least):
    assert stage.least_epochs == least


@pytest.mark.parametrize(
    "stage",
    [
        Stage(),
        Stage(["block4", "block5"], epochs=3, learning_rate="0.1x", layer_decay=0.5, batch_norm="train"),
        Stage(2, patience=3, monitor="val_accuracy", mode="max", warmup=0.1, restore_best=True, min_delta=0.01),
        Stage("block5", freeze="head", name="swap"),
    ],
)
def test_to_dict_and_back(stage):
    assert Stage.from_dict(stage.to_dict()) == stage


def test_a_schedule_object_to_dict_and_back():
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, 100)
    again = Stage.from_dict(Stage(learning_rate=schedule).to_dict()).learning_rate
    assert again.get_config() == schedule.get_config()


def test_an_unknown_key_is_refused():
    with pytest.raises(ScheduleError, match=r"knows the keys unfreeze, epochs.*Received: 'epoch'"):
        Stage.from_dict({"epoch": 3})
