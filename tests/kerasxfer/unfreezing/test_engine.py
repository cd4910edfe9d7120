"""The engine in loops other than `fit`, plateaus, and what is refused."""

import json

import keras
import numpy as np
import pytest

from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing
from kerasxfer.unfreezing import Engine, resolve
from kerasxfer.unfreezing.stages import ScheduleError


def test_a_loop_of_train_on_batch(build, images, weights, same):
    """Takes the same way as `fit` does."""
    stages = [Stage(epochs=1), Stage("block3", epochs=2, learning_rate=1e-3, warmup=1), Stage("block1", epochs=1)]
    x, y = images
    fitted, looped = build(keras.optimizers.Adam(1e-2)), build(keras.optimizers.Adam(1e-2))
    callbacks = [ProgressiveUnfreezing(stages, verbose=0)]
    fitted.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=callbacks)
    engine = Engine(looped, stages, steps_per_epoch=3)
    engine.start()
    seen = []
    while not engine.finished:
        seen.append(engine.current.index)
        for i in range(3):
            looped.train_on_batch(x[i * 8 : i * 8 + 8], y[i * 8 : i * 8 + 8])
        if engine.advance({}) and not engine.finished:
            engine.enter()
    assert seen == [0, 1, 1, 2]
    for key, value in weights(fitted).items():
        np.testing.assert_allclose(value, weights(looped)[key], atol=1e-6)


def test_the_state_is_a_plain_dictionary(build, images, tmp_path):
    stages = [Stage(epochs=1), Stage("block3", patience=3), Stage("block2")]
    model = build("adam")
    engine = Engine(model, stages)
    engine.start()
    model.train_on_batch(*images)
    engine.advance({})
    engine.enter()
    engine.advance({"val_loss": 0.5})
    engine.advance({"val_loss": 0.75})
    saved = json.dumps(engine.state)
    model.save_weights(tmp_path / "model.weights.h5")

    other = build("adam")
    again = Engine(other, stages)
    other.load_weights(tmp_path / "model.weights.h5")
    again.state = json.loads(saved)
    assert again.state == engine.state
    assert again.current.index == 1
    assert [v.path for v in other.trainable_variables] == [v.path for v in model.trainable_variables]
    assert (again.advance({"val_loss": 0.75}), again.advance({"val_loss": 0.75})) == (False, True)


def plateau(build, values, **stage):
    engine = Engine(build("adam"), [Stage(**stage), Stage("block3")])
    engine.start()
    return [engine.advance({"val_loss": value, "val_accuracy": value}) for value in values]


def test_a_plateau_ends_a_stage(build):
    assert plateau(build, [3, 2, 2, 1.9, 2, 2], patience=2) == [False] * 5 + [True]
    assert plateau(build, [3, 2, 2, 1.9], patience=2, min_delta=0.5) == [False] * 3 + [True]
    assert plateau(build, [0.1, 0.2, 0.2], patience=1, monitor="val_accuracy") == [False, False, True]
    assert plateau(build, [0.1, 0.2], patience=1, monitor="val_accuracy", mode="min") == [False, True]
    assert plateau(build, [3, 2, 1], patience=2, epochs=3) == [False, False, True]
    assert plateau(build, [float("nan"), float("nan")], patience=2) == [False, True]


def test_a_missing_monitor_warns_and_says_what_is_there(build):
    engine = Engine(build("adam"), [Stage(patience=2, monitor="val_f1"), Stage("block3")])
    engine.start()
    with pytest.warns(UserWarning, match=r"`val_f1`.*Available: loss, val_loss"):
        engine.advance({"loss": 1.0, "val_loss": 1.0})


def test_the_best_weights_of_a_stage_come_back(build, images, weights, same):
    model = build(keras.optimizers.Adam(1e-2, use_ema=True))
    engine = Engine(model, [Stage("block3", patience=2, restore_best=True), Stage("block2", restore_best=True)])
    engine.start()
    seen = []
    for value in (0.5, 0.25, 0.75, 0.5):
        model.train_on_batch(*images)
        seen.append(weights(model))
        engine.advance({"val_loss": value})
    assert engine.enter()
    assert same(weights(model), seen[1])
    assert not same(weights(model), seen[3])
    model.train_on_batch(*images)
    engine.advance({"val_loss": 0.5})
    best = weights(model)
    model.train_on_batch(*images)
    engine.advance({"val_loss": 0.6})
    engine.restore_best()
    assert same(weights(model), best)


def test_resolving_leaves_the_model_as_it_was(build):
    model = build("adam", nested=True)
    model.get_layer("backbone").get_layer("block2_conv").trainable = False
    flags = [layer.trainable for layer in (*model.layers, *model.get_layer("backbone").layers)]
    one, two = resolve([Stage(epochs=1), Stage(2, layer_decay=0.5)], model)
    assert flags == [layer.trainable for layer in (*model.layers, *model.get_layer("backbone").layers)]
    assert one.blocks == ()
    assert [layer.name for layer in one.layers] == ["predictions"]
    assert two.blocks == ("block2", "block3")
    assert [layer.name for layer in two.layers] == ["block2_conv", "block3_conv", "predictions"]
    assert two.shares == {"block2": 0.25, "block3": 0.5}


NAMED = {
    "block3": ["block3"],
    "block2_conv": ["block2", "block3"],
    "block[12]": ["block1", "block2"],
    2: ["block2", "block3"],
    0.5: ["block2", "block3"],
    "all": ["block0", "block1", "block2", "block3"],
    ("block0", "block3"): ["block0", "block3"],
    ("block1_conv",): ["block1"],
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("unfreeze", NAMED)
def test_what_a_stage_may_name(build, unfreeze, nested):
    resolved = resolve([Stage(epochs=1), Stage(unfreeze)], build("adam", nested=nested))
    assert list(resolved[1].blocks) == NAMED[unfreeze]


def test_a_block_of_a_nested_backbone_by_its_full_name(build):
    assert resolve([Stage(epochs=1), Stage("backbone/block3")], build("adam", nested=True))[1].blocks == ("block3",)


REFUSED = [
    ([Stage(epochs=1), Stage("blok3")], r"Stage 2 .*'blok3'.*Did you mean 'block3'.*The blocks: 'block0', 'block1'"),
    ([Stage(epochs=1), Stage("conv*")], r"must name a block or a layer"),
    ([Stage(epochs=1), Stage("block3", epochs=1), Stage("block3")], r"Stage 3 .*overlaps.*Still frozen: 'block0'"),
    ([Stage("block3", epochs=1), Stage("block[23]")], r"overlaps: 'block3'"),
    ([Stage(epochs=1), Stage(7)], r"counts blocks from the top, of which there are 4"),
    ([Stage("all", epochs=1), Stage("block1_conv")], r"changes nothing"),
    ([Stage(epochs=1), Stage()], r"changes nothing.*same learning rate"),
    ([Stage(epochs=1), Stage("block3", freeze="block3")], r"`freeze` and `unfreeze` overlap"),
    ([Stage(epochs=1), Stage(freeze="block2")], r"`freeze` must name what trains so far"),
    ([Stage(epochs=1), Stage(freeze="head")], r"nothing trains"),
    ([Stage(), Stage("block3")], r"Stage 1 .*only the last stage may be open-ended"),
    ([], r"at least one `Stage`"),
    (["block3"], r"at least one `Stage`"),
]


@pytest.mark.parametrize(("stages", "message"), REFUSED)
def test_a_schedule_that_does_not_fit_is_refused_before_the_first_step(build, images, weights, same, stages, message):
    model = build("adam")
    start = weights(model)
    with pytest.raises(ScheduleError, match=message):
        model.fit(*images, epochs=9, verbose=0, callbacks=[ProgressiveUnfreezing(stages)])
    assert same(start, weights(model))


def test_ambiguous_names_are_refused():
    def tower(name):
        inputs = keras.layers.Input((8, 8, 3))
        x = keras.layers.Conv2D(2, 3, name="block1_conv")(inputs)
        return keras.Model(inputs, keras.layers.Conv2D(2, 3, name="block2_conv")(x), name=name)

    inputs = keras.layers.Input((8, 8, 3))
    towers = [keras.layers.GlobalMaxPooling2D()(tower(name)(inputs)) for name in ("left", "right")]
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(towers)))
    for name in ("block2", "block2_conv"):
        with pytest.raises(ScheduleError, match=f"ambiguous. Write one of 'left/{name}', 'right/{name}'"):
            resolve([Stage(epochs=1), Stage(name)], model)
    _, one, both = resolve([Stage(epochs=1), Stage("left/block2", epochs=1), Stage(1)], model)
    assert [v.path for v in one.variables][:1] == ["block2_conv/kernel"]
    assert len(both.variables) == len(one.variables) + 2


def test_epochs_of_fit_that_are_too_few(build, images):
    stages = [Stage(epochs=5), Stage("block3", patience=3), Stage("block2")]
    with pytest.raises(ScheduleError, match=r"at least 10 .*'head' 5, 'block3' 4, 'block2' 1. Received: epochs=9"):
        build("adam").fit(*images, epochs=9, verbose=0, callbacks=[ProgressiveUnfreezing(stages)])


def test_a_model_that_is_not_compiled(build):
    model = build("adam")
    model = keras.Model(model.input, model.output)
    with pytest.raises(ScheduleError, match="must be compiled"):
        Engine(model, [Stage()])


def test_a_relative_rate_on_a_compiled_schedule(build):
    compiled = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    with pytest.raises(ScheduleError, match=r"needs a number .*schedule object.*learning_rate='0.1x'"):
        Engine(build(keras.optimizers.SGD(compiled)), [Stage(learning_rate="0.1x")])


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="since Keras 3.15")
def test_an_absolute_rate_for_several_optimizers(build):
    chosen = keras.optimizers.OptimizerMap(keras.optimizers.Adam(), {"block.*": keras.optimizers.SGD()})
    with pytest.raises(ScheduleError, match="must be relative"):
        Engine(build(keras.optimizers.MultiOptimizer(chosen)), [Stage(learning_rate=0.1)])


def test_a_warmup_without_the_length_of_an_epoch(build, images):
    engine = Engine(build("adam"), [Stage(warmup=1)])
    with pytest.raises(ScheduleError, match="steps_per_epoch"):
        engine.start()


def test_an_epoch_in_a_stage_of_unknown_length(build):
    engine = Engine(build("adam"), [Stage(epochs=2), Stage("block3", patience=2), Stage("block2")])
    with pytest.raises(ScheduleError, match=r"epoch 6.*ends by plateau"):
        engine.start(5)


def test_a_head_that_is_frozen(build):
    model = build("adam")
    model.trainable = False
    with pytest.raises(ScheduleError, match="nothing trains"):
        Engine(model, [Stage(epochs=1), Stage("block3")])
