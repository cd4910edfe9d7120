"""Learning rates: by stage, by block, in time, and the step counts behind Adam's bias correction."""

import keras
import numpy as np
import pytest

from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing
from kerasxfer.keras_internals import attachment
from kerasxfer.unfreezing import Engine


def rate(optimizer):
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


@pytest.fixture
def engine(build):
    """`engine(stages, optimizer, steps_per_epoch=None)`: started."""

    def make(stages, optimizer, steps_per_epoch=None):
        engine = Engine(build(optimizer, same_shape=False), stages, steps_per_epoch)
        engine.start()
        return engine

    return make


def go_on(engine):
    engine.advance({})
    assert engine.enter()


def gradients(variables, seed):
    rng = np.random.default_rng(seed)
    return [keras.ops.convert_to_tensor(rng.normal(size=v.shape).astype("float32")) for v in variables]


def array(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


STEPPING = {
    "Adam": {},
    "AdamW": {"weight_decay": 0.1},
    "Adamax": {},
    "Lamb": {},
    "RMSprop": {},
    "SGD": {"momentum": 0.9},
    "Lion": {},
    "accumulating Adam": {"gradient_accumulation_steps": 2},
}


LATE = [
    pytest.param(name, late, marks=[] if (name, late) == ("Adam", 5000) else [pytest.mark.slow])
    for name in STEPPING
    for late in (500, 5000)
]


@pytest.mark.parametrize(("name", "late"), LATE)
def test_a_late_block_steps_as_under_a_new_optimizer(engine, name, late):
    optimizer = getattr(keras.optimizers, name.split()[-1])
    made = lambda: optimizer(1e-3, **STEPPING[name])  # noqa: E731
    running = engine([Stage(epochs=1), Stage("block3", epochs=1)], made())
    running.optimizer.variables[0].assign(late)
    go_on(running)
    kernel = running.model.get_layer("block3_conv").kernel
    twin, new = keras.Variable(array(kernel), name="twin"), made()
    new.build([twin])
    for step in range(50):
        grads = gradients(running.current.variables, step)
        index = [v is kernel for v in running.current.variables].index(True)
        running.optimizer.apply(grads, list(running.current.variables))
        new.apply([grads[index]], [twin])
        np.testing.assert_allclose(array(kernel), array(twin), rtol=1e-5, atol=1e-7)
    assert int(keras.ops.convert_to_numpy(running.optimizer.variables[0])) == late + 50


@pytest.mark.slow
@pytest.mark.parametrize("late", [500, 5000])
def test_nadam_steps_no_further_than_a_new_one(engine, late):
    running = engine([Stage(epochs=1), Stage("block3", epochs=1)], keras.optimizers.Nadam(1e-3))
    running.optimizer.variables[0].assign(late)
    running.optimizer._u_product.assign(0.0)
    go_on(running)
    kernel = running.model.get_layer("block3_conv").kernel
    twin, new = keras.Variable(array(kernel), name="twin"), keras.optimizers.Nadam(1e-3)
    new.build([twin])
    index = [v is kernel for v in running.current.variables].index(True)
    for step in range(50):
        before, twin_before = array(kernel), array(twin)
        grads = gradients(running.current.variables, 0 if step < 25 else step)
        running.optimizer.apply(grads, list(running.current.variables))
        new.apply([grads[index]], [twin])
        assert np.abs(array(kernel) - before).max() <= 1.05 * np.abs(array(twin) - twin_before).max()


def test_who_trained_before_keeps_its_clock(engine):
    """Freezing stops a variable's clock, and nobody else's."""
    stages = [Stage("block3", epochs=1), Stage("block2", freeze="block3", epochs=1), Stage("block3", epochs=1)]
    running = engine(stages, keras.optimizers.Adam(1e-3))
    iterations = running.optimizer.variables[0]
    iterations.assign(100)
    go_on(running)
    iterations.assign(150)
    go_on(running)
    seam = next(attachment(running.optimizer).seams)
    late = {v.path.split("/")[-2]: seam.thawed[running.optimizer._var_key(v)] for v in running.current.variables}
    assert late == {"predictions": 0, "block2_conv": 100, "block3_conv": 50}


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "SGD"])
def test_layer_decay_scales_the_steps_of_the_blocks(engine, optimizer):
    made = lambda: getattr(keras.optimizers, optimizer)(1e-2)  # noqa: E731
    steps = []
    for decay in (None, 0.5):
        running = engine([Stage("all", layer_decay=decay, epochs=1)], made())
        variables = list(running.current.variables)
        before = [array(v) for v in variables]
        running.optimizer.apply(gradients(variables, 1), variables)
        steps.append({v.path.split("/")[-2]: array(v) - b for v, b in zip(variables, before, strict=True)})
    for name, factor in {"predictions": 1, "block3_conv": 0.5, "block2_conv": 0.25, "block0_conv": 0.0625}.items():
        np.testing.assert_allclose(steps[1][name], factor * steps[0][name], rtol=2e-3, atol=1e-7)


def test_layer_decay_scales_weight_decay(engine):
    running = engine([Stage("all", layer_decay=0.5, epochs=1)], keras.optimizers.SGD(0.1, weight_decay=0.1))
    variables = list(running.current.variables)
    before = {v.path.split("/")[-2]: array(v) for v in variables}
    running.optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
    after = {v.path.split("/")[-2]: array(v) for v in variables}
    for name, factor in {"block3_conv": 0.5, "block1_conv": 0.125}.items():
        np.testing.assert_allclose(after[name], before[name] * (1 - 0.01 * factor), rtol=1e-6)


def test_variables_without_weight_decay_stay_without(engine):
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    running = engine([Stage("all", layer_decay=0.5, epochs=1)], optimizer)
    kernel = running.model.get_layer("block3_conv").kernel
    before, variables = array(kernel), list(running.current.variables)
    running.optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
    np.testing.assert_array_equal(array(kernel), before)


def test_rates_of_the_blocks_are_in_the_logs(engine):
    running = engine([Stage(3, layer_decay=0.5, epochs=1)], keras.optimizers.Adam(1e-2))
    logs = running.log()
    assert logs["learning_rate"] == pytest.approx(1e-2)
    assert logs["learning_rate_block3"] == pytest.approx(5e-3)
    assert logs["learning_rate_block1"] == pytest.approx(1.25e-3)
    assert "learning_rate_block0" not in logs


def test_relative_rates_refer_to_the_compiled_one(engine):
    stages = [Stage(epochs=1, learning_rate="0.5x"), Stage("block3", epochs=1, learning_rate="0.1x")]
    running = engine(stages, keras.optimizers.Adam(1e-2))
    assert rate(running.optimizer) == pytest.approx(5e-3)
    go_on(running)
    assert rate(running.optimizer) == pytest.approx(1e-3)


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="since Keras 3.15")
def test_relative_rates_of_several_optimizers(engine):
    inner = keras.optimizers.SGD(1e-2), keras.optimizers.Adam(1e-3)
    chosen = keras.optimizers.OptimizerMap(inner[1], {"block.*": inner[0]})
    running = engine([Stage(epochs=1), Stage("block3", learning_rate="0.1x")], keras.optimizers.MultiOptimizer(chosen))
    go_on(running)
    assert [rate(one) for one in inner] == pytest.approx([1e-3, 1e-4])
    assert running.log()["learning_rate_sgd"] == pytest.approx(1e-3)


def test_a_schedule_starts_with_its_stage(engine):
    schedule = keras.optimizers.schedules.PolynomialDecay(1e-2, decay_steps=10, end_learning_rate=0.0)
    running = engine([Stage(epochs=1), Stage("block3", learning_rate=schedule)], keras.optimizers.SGD(0.5))
    steps = running.optimizer.variables[0]
    steps.assign(400)
    assert rate(running.optimizer) == pytest.approx(0.5)
    go_on(running)
    assert rate(running.optimizer) == pytest.approx(1e-2)
    steps.assign(405)
    assert rate(running.optimizer) == pytest.approx(5e-3)


def test_a_schedule_moves_the_weights_by_its_rate(engine):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1.0, 0.25])
    running = engine([Stage(epochs=1), Stage("block3", learning_rate=schedule)], keras.optimizers.SGD(0.5))
    variables = list(running.current.variables)
    running.optimizer.apply(gradients(variables, 0), variables)
    go_on(running)
    variables, moves = list(running.current.variables), []
    for _ in range(3):
        before = array(variables[0])
        running.optimizer.apply([keras.ops.ones(v.shape) for v in variables], variables)
        moves.append(float((before - array(variables[0])).mean()))
    assert moves == pytest.approx([1.0, 1.0, 0.25], rel=1e-5)


def test_warmup_rises_over_its_epochs(engine):
    stages = [Stage(epochs=1), Stage("block3", learning_rate=1e-2, warmup=0.5)]
    running = engine(stages, keras.optimizers.SGD(1e-3), steps_per_epoch=8)
    steps = running.optimizer.variables[0]
    steps.assign(8)
    go_on(running)
    seen = []
    for step in range(8, 14):
        steps.assign(step)
        seen.append(rate(running.optimizer))
    assert seen == pytest.approx([0.25e-2, 0.5e-2, 0.75e-2, 1e-2, 1e-2, 1e-2])


def test_a_number_after_a_compiled_schedule(engine):
    compiled = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    running = engine([Stage(epochs=1), Stage("block3", learning_rate=1e-3)], keras.optimizers.SGD(compiled))
    running.optimizer.variables[0].assign(10)
    assert rate(running.optimizer) == pytest.approx(0.05)
    go_on(running)
    assert rate(running.optimizer) == pytest.approx(1e-3)


@pytest.mark.slow
def test_callbacks_that_shall_restart(build, images):
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, min_delta=10, restore_best_weights=False)
    stages = [Stage(epochs=2), Stage("block3", epochs=2), Stage("block2", epochs=2)]
    for restart, epochs in (([], 3), ([stopping], 6)):
        model = build("adam")
        history = model.fit(
            *images,
            epochs=6,
            verbose=0,
            validation_data=images,
            callbacks=[ProgressiveUnfreezing(stages, verbose=0, restart=restart), stopping],
        )
        assert len(history.history["stage"]) == epochs


@pytest.mark.slow
def test_rates_set_by_other_callbacks_hold_until_the_next_stage(build, images):
    reduce = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1, min_delta=10, cooldown=0)
    stages = [Stage(epochs=3, learning_rate=1e-2), Stage("block3", epochs=1, learning_rate=1e-3)]
    model = build("adam")
    callbacks = [ProgressiveUnfreezing(stages, verbose=0), reduce]
    history = model.fit(*images, epochs=4, verbose=0, validation_data=images, callbacks=callbacks).history
    assert history["learning_rate"] == pytest.approx([1e-2, 1e-2, 5e-3, 1e-3])
