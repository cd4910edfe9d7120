"""What holds during one `fit` with stages inside."""

import shutil

import keras
import numpy as np
import pytest

from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing
from kerasxfer.keras_internals import slots

BACKEND = keras.config.backend()


class Watch(keras.callbacks.Callback):
    """Calls a function at the beginning and the end of each epoch."""

    def __init__(self, look):
        super().__init__()
        self.look, self.begun, self.ended = look, [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(self.look(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(self.look(self.model))


def fit(model, data, stages, *others, epochs=None, **arguments):
    x, y = data
    epochs = epochs or sum(stage.epochs for stage in stages)
    callbacks = [ProgressiveUnfreezing(stages, verbose=0), *others]
    return model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks, **arguments)


def read_slots(model):
    return {key: np.array(keras.ops.convert_to_numpy(value)) for key, value in slots(model.optimizer).items()}


THREE = (
    Stage(epochs=2),
    Stage("block3", epochs=2, learning_rate=1e-3),
    Stage(("block2", "block1"), epochs=2, learning_rate=5e-4),
)


@pytest.mark.parametrize("nested", [False, True])
def test_weights_move_in_their_stage_and_not_before(build, images, weights, same, nested):
    model = build(keras.optimizers.Adam(1e-2), nested=nested)
    start = {name: weights(model, name) for name in ("block0", "block1", "block3_bn", "block3_conv", "predictions")}
    watch = Watch(lambda model: {name: weights(model, name) for name in start})
    fit(model, images, THREE, watch)
    first, second, third = watch.ended[1], watch.ended[3], watch.ended[5]
    assert all(same(start[name], first[name]) for name in ("block0", "block1", "block3_conv", "block3_bn"))
    assert not same(start["predictions"], first["predictions"])
    assert same(start["block1"], second["block1"])
    assert not same(start["block3_conv"], second["block3_conv"])
    assert not same(second["block1"], third["block1"])
    assert same(start["block0"], third["block0"])
    assert same(start["block3_bn"], third["block3_bn"])


@pytest.mark.slow
def test_each_epoch_is_in_the_stage_it_should_be_in(build, images):
    model = build(keras.optimizers.Adam(1e-2))
    watch = Watch(lambda model: [layer.name for layer in model.layers if layer.trainable and layer.trainable_weights])
    history = fit(model, images, THREE, watch).history
    head = ["predictions"]
    one, two = ["block3_conv", *head], ["block1_conv", "block2_conv", "block3_conv", *head]
    assert watch.begun == [head, head, one, one, two, two]
    assert history["stage"] == [1, 1, 2, 2, 3, 3]
    assert history["trainable_params"] == [5, 5, 149, 149, 437, 437]
    np.testing.assert_allclose(history["learning_rate"], [1e-2, 1e-2, 1e-3, 1e-3, 5e-4, 5e-4], rtol=1e-6)


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(1e-2),
    "amsgrad": lambda: keras.optimizers.Adam(1e-2, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.01),
    "sgd": lambda: keras.optimizers.SGD(1e-2),
    "momentum": lambda: keras.optimizers.SGD(1e-2, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(1e-2, momentum=0.5),
    "nadam": lambda: keras.optimizers.Nadam(1e-2),
    "adamax": lambda: keras.optimizers.Adamax(1e-2),
    "adagrad": lambda: keras.optimizers.Adagrad(1e-2),
    "adadelta": lambda: keras.optimizers.Adadelta(1e-2),
    "adafactor": lambda: keras.optimizers.Adafactor(1e-2),
    "ftrl": lambda: keras.optimizers.Ftrl(1e-2),
    "lion": lambda: keras.optimizers.Lion(1e-3),
    "lamb": lambda: keras.optimizers.Lamb(1e-2),
    "clipped": lambda: keras.optimizers.Adam(1e-2, global_clipnorm=0.1),
    "accumulating": lambda: keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2),
    "averaging": lambda: keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9),
    "overwriting": lambda: keras.optimizers.SGD(1e-2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2)),
    "several": lambda: keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.Adam(1e-2), {"block.*": keras.optimizers.SGD(1e-2, momentum=0.9, name="below")}
        )
    ),
}


if not hasattr(keras.optimizers, "MultiOptimizer"):  # before Keras 3.15
    del OPTIMIZERS["several"]
USUAL = {"adam", "averaging"}
EACH = [pytest.param(name, marks=[] if name in USUAL else [pytest.mark.slow]) for name in OPTIMIZERS]


@pytest.mark.parametrize("name", EACH)
def test_a_transition_leaves_every_slot_as_it_was(build, images, name):
    model = build(OPTIMIZERS[name]())
    stages = [Stage(epochs=2), Stage("block3", epochs=2, warmup=1), Stage("block2", epochs=2, warmup=1)]
    watch = Watch(read_slots)
    fit(model, images, stages, watch)
    trained = [key for key in watch.begun[-1] if "block3" in key[0] or "predictions" in key[0]]
    assert trained or name == "sgd"
    for ended, begun in ((watch.ended[1], watch.begun[2]), (watch.ended[3], watch.begun[4])):
        changed = [key for key in begun if not np.array_equal(ended[key], begun[key])]
        assert all(key[1] == "average" and "predictions" not in key[0] for key in changed)
    moved = [key for key in trained if not np.array_equal(watch.begun[4][key], watch.ended[5][key])]
    assert moved or not trained
    assert all(np.isfinite(value).all() for value in model.get_weights())


@pytest.mark.parametrize("name", EACH)
def test_the_first_stage_steps_as_plain_keras_does(build, images, weights, same, name):
    plain, staged = build(OPTIMIZERS[name]()), build(OPTIMIZERS[name]())
    for layer in plain.layers:
        layer.trainable = layer.name == "predictions"
    plain.compile(plain.optimizer, plain.loss)
    keras.utils.set_random_seed(1)
    plain.fit(*images, batch_size=8, epochs=2, shuffle=False, verbose=0)
    keras.utils.set_random_seed(1)
    fit(staged, images, [Stage(epochs=2), Stage("block3", epochs=1)], Stop(2), shuffle=False)
    assert same(weights(plain), weights(staged))


class Stop(keras.callbacks.Callback):
    def __init__(self, after):
        super().__init__()
        self.after = after

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch + 1 == self.after


@pytest.mark.slow
def test_a_later_stage_steps_as_a_recompiled_model_does(build, images, weights, same):
    """Plain SGD keeps nothing between steps, so recompiling at the transition is the exact reference."""
    plain, staged = build(keras.optimizers.SGD(0.1)), build(keras.optimizers.SGD(0.1))
    for names in (("predictions",), ("predictions", "block3_conv"), ("predictions", "block3_conv", "block1_conv")):
        for layer in plain.layers:
            layer.trainable = layer.name in names
        plain.compile(keras.optimizers.SGD(0.1), plain.loss)
        plain.fit(*images, batch_size=8, epochs=2, shuffle=False, verbose=0)
    stages = [Stage(epochs=2), Stage("block3", epochs=2), Stage(["block1"], epochs=2)]
    fit(staged, images, stages, shuffle=False)
    assert same(weights(plain), weights(staged))


def test_swapping_layers_of_one_shape(build, images, weights, same):
    """Their variables fit each other's places in every list, so a mix-up would not show by itself."""
    model = build(keras.optimizers.Adam(1e-2))
    stages = [
        Stage(("block1",), epochs=2),
        Stage(("block3",), freeze="block1", epochs=2),
        Stage(("block2",), freeze="block3", epochs=1),
    ]
    watch = Watch(lambda model: ({n: weights(model, n) for n in ("block1", "block2", "block3")}, read_slots(model)))
    x, y = images
    fit(model, images, stages, watch, validation_data=(x, y))
    (before, slots_before), (after, slots_after) = watch.ended[1], watch.ended[3]
    assert same(before["block1"], after["block1"])
    assert not same(before["block3"], after["block3"])
    for (path, slot), value in slots_after.items():
        assert np.array_equal(value, slots_before[path, slot]) == ("block1" in path or "block2" in path)
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)
    again = build(keras.optimizers.Adam(1e-2))
    again.set_weights(model.get_weights())
    assert evaluated == again.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))


@pytest.mark.parametrize(("nested", "training"), [(False, None), (True, False)])
def test_batch_norm_of_the_backbone_stays_in_inference_mode(build, images, weights, same, nested, training):
    model = build("adam", nested=nested, training=training)
    start = weights(model, "block3_bn")
    fit(model, images, [Stage(epochs=1), Stage("all", epochs=2)])
    assert same(start, weights(model, "block3_bn"))


@pytest.mark.parametrize("nested", [pytest.param(False, marks=pytest.mark.slow), True])
def test_batch_norm_trains_where_a_stage_says_so(build, images, weights, same, nested):
    model = build("adam", nested=nested)
    names = ("block2_bn", "block3_bn")
    start = {name: weights(model, name) for name in names}
    watch = Watch(lambda model: {name: weights(model, name) for name in names})
    stages = [Stage(epochs=1), Stage("block3", epochs=1, batch_norm="train"), Stage("block2", epochs=1)]
    fit(model, images, stages, watch)
    assert same(start["block2_bn"], watch.ended[2]["block2_bn"])
    assert all(not np.array_equal(v, watch.ended[1]["block3_bn"][k]) for k, v in start["block3_bn"].items())
    assert same(watch.ended[1]["block3_bn"], watch.ended[2]["block3_bn"])


@pytest.mark.slow
def test_batch_norm_of_the_head_trains(images):
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, name="below"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    before = model.get_layer("norm").get_weights()
    fit(model, images, [Stage(epochs=1), Stage("all", epochs=1)])
    after = model.get_layer("norm").get_weights()
    assert all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
def test_averages_begin_at_the_weights(build, images):
    """An average that began at zero would pull the weights to zero at the end of fit."""
    model = build(keras.optimizers.Adam(1e-4, use_ema=True, ema_momentum=0.99))
    before = np.array(model.get_layer("block3_conv").get_weights()[0])
    fit(model, images, [Stage(epochs=2), Stage("block3", epochs=1)])
    after = model.get_layer("block3_conv").get_weights()[0]
    np.testing.assert_allclose(after, before, atol=1e-3)
    assert not np.array_equal(after, before)


@pytest.mark.slow
def test_swap_ema_weights_sees_the_averages_of_the_stage(build, images):
    model = build(keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.9))
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    fit(model, images, [Stage(epochs=1), Stage("block3", epochs=2)], swap)
    assert all(np.isfinite(value).all() for value in model.get_weights())


class Counting(keras.Model):
    """Counts how often its step is traced."""

    traces = 0

    def train_step(self, *arguments):
        self.traces += 1
        return super().train_step(*arguments)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch does not trace")
@pytest.mark.parametrize(
    "execution", [{}, pytest.param({"steps_per_execution": 3, "jit_compile": True}, marks=pytest.mark.slow)]
)
def test_one_trace_for_each_stage_that_changes_something(build, images, execution):
    plain, staged = (build("adam", model_class=Counting, **execution) for _ in range(2))
    plain.fit(*images, batch_size=8, verbose=0)
    stages = [*THREE, Stage(epochs=1, learning_rate=1e-5), Stage("block0", epochs=1)]
    fit(staged, images, stages)
    assert staged.traces == plain.traces + 3


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch forbids it")
def test_several_steps_in_one_execution(build, images, weights):
    one, three = (build("adam", steps_per_execution=steps, jit_compile=True) for steps in (1, 3))
    for model in (one, three):
        keras.utils.set_random_seed(2)
        fit(model, images, THREE, shuffle=False)
    for key, value in weights(one).items():
        np.testing.assert_allclose(value, weights(three)[key], atol=2e-4)


@pytest.mark.slow
def test_mixed_precision(build, images, weights, same):
    keras.config.set_dtype_policy("mixed_float16")
    model = build(keras.optimizers.Adam(1e-2))
    start = {name: weights(model, name) for name in ("block0", "block3_conv")}
    watch = Watch(lambda model: weights(model, "block3_conv"))
    fit(model, images, THREE, watch)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert same(start["block0"], weights(model, "block0"))
    assert same(start["block3_conv"], watch.ended[1])
    assert not same(start["block3_conv"], watch.ended[-1])
    assert all(np.isfinite(value).all() for value in model.get_weights())


@pytest.mark.slow
def test_a_fit_after_the_fit_keeps_what_the_optimizer_knows(build, images, weights, same):
    model = build(keras.optimizers.Adam(1e-2))
    fit(model, images, THREE)
    before, frozen = read_slots(model), weights(model, "block3")
    fit(model, images, THREE, Stop(2))
    after = read_slots(model)
    assert same(frozen, weights(model, "block3"))
    assert all(np.array_equal(value, after[key]) == ("predictions" not in key[0]) for key, value in before.items())


@pytest.mark.slow
def test_an_optimizer_that_trained_before_keeps_its_slots(build, images):
    model = build(keras.optimizers.Adam(1e-2))
    for layer in model.layers:
        layer.trainable = layer.name == "predictions"
    model.fit(*images, batch_size=8, epochs=2, verbose=0)
    before = {key: np.array(keras.ops.convert_to_numpy(value)) for key, value in slots(model.optimizer).items()}
    callback = ProgressiveUnfreezing([Stage(epochs=1), Stage("block3", epochs=1)], verbose=0)
    engine = callback.attach(model)
    after = read_slots(model)
    assert before
    assert all(np.array_equal(value, after[key]) for key, value in before.items())
    engine.start()
    assert engine.state["late"] == [None, 0, 0]


@pytest.mark.slow
def test_evaluate_and_predict_with_the_callback_change_nothing(build, images, weights, same):
    model = build("adam")
    x, y = images
    callback = ProgressiveUnfreezing(THREE, verbose=0)
    start, flags = weights(model), [layer.trainable for layer in model.layers]
    model.evaluate(x, y, verbose=0, callbacks=[callback])
    model.predict(x, verbose=0, callbacks=[callback])
    assert same(start, weights(model))
    assert flags == [layer.trainable for layer in model.layers]


def test_a_failing_hook_loses_no_weights(build, images, weights):
    class Failing(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise RuntimeError("failed on purpose")

    model = build(keras.optimizers.Adam(1e-2, use_ema=True))
    with pytest.raises(RuntimeError, match="failed on purpose"):
        fit(model, images, THREE, Failing())
    assert all(np.isfinite(value).all() for value in weights(model).values())
    assert len(model.predict(images[0], verbose=0)) == 24


def test_a_failing_transition_leaves_the_stage_before(build, images, monkeypatch):
    model = build(keras.optimizers.Adam(1e-2, use_ema=True))
    callback = ProgressiveUnfreezing(THREE, verbose=0)
    engine = callback.attach(model)
    engine.start()
    model.train_on_batch(*images)
    seen = [variable.path for variable in model.trainable_variables]
    engine.advance({}), engine.advance({})
    apply = engine._control.apply

    def failing(*arguments):
        apply(*arguments)
        raise RuntimeError("failed on purpose")

    monkeypatch.setattr(engine._control, "apply", failing)
    with pytest.raises(RuntimeError, match="failed on purpose"):
        engine.enter()
    monkeypatch.undo()
    assert [variable.path for variable in model.trainable_variables] == seen
    assert engine.current.index == 0
    np.testing.assert_allclose(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)), 1e-2, rtol=1e-6)
    model.make_train_function(force=True)
    model.train_on_batch(*images)
    assert engine.enter()
    model.train_on_batch(*images)


@pytest.mark.slow
def test_the_schedule_ends_the_training(build, images):
    history = fit(build("adam"), images, [Stage(epochs=1), Stage("block3", epochs=2)], epochs=9).history
    assert history["stage"] == [1, 2, 2]


def test_one_line_at_each_transition(build, images, capsys):
    x, y = images
    model = build(keras.optimizers.Adam(1e-2))
    model.fit(x, y, epochs=4, verbose=0, callbacks=[ProgressiveUnfreezing([Stage(epochs=2), Stage("block3")])])
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split(":")[0] for line in lines] == ["Epoch 1", "Epoch 3"]
    assert "stage 2 of 2, 'block3': 149 of" in lines[1]
    assert "frozen" in lines[1]


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="the other backends compile in the tests above")
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_takes_part_in_every_stage(build, images, weights):
    eager, compiled = (build(keras.optimizers.SGD(0.1), jit_compile=jit) for jit in (False, True))
    for model in (eager, compiled):
        keras.utils.set_random_seed(2)
        fit(model, images, THREE, shuffle=False)
    start, after_compiled = weights(build()), weights(compiled)
    for key, value in weights(eager).items():
        np.testing.assert_allclose(after_compiled[key], value, atol=1e-4)
        assert np.array_equal(value, start[key]) == ("block0" in key or "_bn" in key)
