"""Schedules as files, generated, and planned."""

import keras
import pytest

from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing
from kerasxfer.unfreezing.stages import ScheduleError

TEXT = """
stages:
  - epochs: 5
    learning_rate: 1e-3      # YAML 1.1 takes this for a string
  - unfreeze: block3
    patience: 3
    learning_rate: 0.01x
    warmup: 0.1
  - unfreeze: [block1, block2]
    layer_decay: 0.5
    restore_best: true
"""
STAGES = [
    Stage(epochs=5, learning_rate=1e-3),
    Stage("block3", patience=3, learning_rate="0.01x", warmup=0.1),
    Stage(["block1", "block2"], layer_decay=0.5, restore_best=True),
]


def test_a_schedule_from_a_file_and_from_text(tmp_path):
    path = tmp_path / "schedule.yaml"
    path.write_text(TEXT)
    assert ProgressiveUnfreezing.from_yaml(TEXT).stages == STAGES
    assert ProgressiveUnfreezing.from_yaml(path).stages == STAGES
    assert ProgressiveUnfreezing.from_yaml(str(path), verbose=0).verbose == 0


def test_a_schedule_to_yaml_and_back(tmp_path):
    path = tmp_path / "schedule.yaml"
    text = ProgressiveUnfreezing(STAGES).to_yaml(path)
    assert path.read_text() == text
    assert ProgressiveUnfreezing.from_yaml(path).stages == STAGES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [{epochs: 0}]", "Stage 1 of the schedule: `epochs` must be"),
        ("stages: [{}, {block: block5}]", "Stage 2 of the schedule: .*Received: 'block'"),
        ("stages: block5", "must hold `stages:`"),
        ("a: [", "not YAML"),
        ("nowhere.yaml", "which is not a file"),
    ],
)
def test_a_file_that_is_no_schedule_is_refused(text, message):
    with pytest.raises(ScheduleError, match=message):
        ProgressiveUnfreezing.from_yaml(text)


def test_the_usual_schedule(build):
    made = ProgressiveUnfreezing.by_block(build("adam"), count=2, epochs=3, patience=2, verbose=0)
    assert made.stages == [
        Stage(epochs=5),
        Stage("block3", epochs=3, patience=2, learning_rate="0.1x"),
        Stage("block2", epochs=3, patience=2, learning_rate="0.1x"),
    ]
    assert made.verbose == 0


@pytest.mark.slow
def test_the_usual_schedule_in_larger_steps(build, images):
    made = ProgressiveUnfreezing.by_block(build("adam"), step=3, head_epochs=1, epochs=1, verbose=0)
    assert [stage.unfreeze for stage in made.stages] == [None, ("block3", "block2", "block1"), ("block0",)]
    history = build("adam").fit(*images, epochs=3, verbose=0, callbacks=[made]).history
    assert history["stage"] == [1, 2, 3]


def test_more_blocks_than_there_are(build):
    with pytest.raises(ScheduleError, match=r"between 1 and the number of blocks, 4"):
        ProgressiveUnfreezing.by_block(build("adam"), count=5)


def test_the_plan(build, capsys, weights, same):
    model = build(keras.optimizers.Adam(1e-2))
    start, flags = weights(model), [layer.trainable for layer in model.layers]
    plan = ProgressiveUnfreezing(STAGES).plan(model)
    assert [row["trainable_params"] for row in plan.rows] == [5, 149, 437]
    assert [row["blocks"] for row in plan.rows] == [[], ["block3"], ["block1", "block2", "block3"]]
    assert [row["optimizer_bytes"] for row in plan.rows] == [2 * 4 * n for n in (5, 149, 437)]
    assert [row["ends"] for row in plan.rows] == ["5 epochs", "val_loss stalls for 3", "with fit"]
    assert [row["learning_rate"] for row in plan.rows] == ["0.001", "0.0001, warm-up 0.1", "0.0001 … 1.25e-05"]
    assert plan.optimizer_bytes == 2 * 4 * 437
    assert capsys.readouterr().out.strip() == str(plan)
    assert same(start, weights(model))
    assert flags == [layer.trainable for layer in model.layers]


def test_the_plan_of_a_model_that_is_not_compiled(build):
    built = build("adam")
    plan = ProgressiveUnfreezing(STAGES[1:]).plan(keras.Model(built.input, built.output))
    assert [row["learning_rate"] for row in plan.rows] == ["0.01x, warm-up 0.1", "0.01x, blocks × 1 … 0.125"]


def test_a_plan_is_refused_as_the_fit_would_be(build):
    with pytest.raises(ScheduleError, match="blok"):
        ProgressiveUnfreezing([Stage("blok")]).plan(build("adam"))


def test_what_the_schedule_watches():
    stages = [
        Stage(epochs=1, monitor="loss"),
        Stage(1, patience=1, monitor="val_accuracy"),
        Stage(2, restore_best=True),
    ]
    assert ProgressiveUnfreezing(stages).monitors == ["val_accuracy", "val_loss"]
