"""What kerasxfer relies on in Keras without Keras's promise. A failure here: look at Keras first."""

import inspect

import keras
import numpy as np
import pytest

from kerasxfer import keras_internals as internals

BUILT_IN = [
    *("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion", "Muon", "Nadam"),
    *("RMSprop", "SGD"),
]


def variables():
    return [keras.Variable(np.ones((2, 3), "float32"), name=f"v{i}") for i in range(3)]


def made(name, **arguments):
    if name == "Muon" and keras.config.backend() == "tensorflow" and keras.__version__ < "3.13":
        pytest.skip("Muon of this Keras asks TensorFlow's own variables for a path, with or without us")
    return getattr(keras.optimizers, name)(0.1, **arguments)


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_optimizer_keeps_one_entry_for_each_variable_in_lists(name):
    optimizer = made(name, use_ema=True)
    known = variables()
    held = internals.build_on(optimizer, known)
    (built,) = held.built
    assert [id(v) for v in built.variables] == [id(v) for v in known]
    listed = {id(slot) for slot in internals.slots(optimizer).values()}
    single = {id(optimizer.iterations), id(optimizer._learning_rate), *map(id, built.scalars().values())}
    assert {id(v) for v in optimizer.variables} - single <= listed
    assert optimizer.variables[0] is optimizer._iterations


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_narrowed_optimizer_moves_only_what_it_sees(name):
    optimizer, known = made(name), variables()
    internals.build_on(optimizer, known)
    count = len(optimizer.variables)
    internals.set_active_variables(optimizer, [known[2], known[0]])
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in known]
    slots = {key: np.array(keras.ops.convert_to_numpy(v)) for key, v in internals.slots(optimizer).items()}
    grads = [keras.ops.convert_to_tensor(np.full((2, 3), 0.5, "float32"))] * 2
    optimizer.apply(grads)
    moved = [not np.array_equal(b, keras.ops.convert_to_numpy(v)) for b, v in zip(before, known, strict=True)]
    assert moved == [True, False, True]
    for (path, name), slot in internals.slots(optimizer).items():
        assert path != known[1].path or np.array_equal(slots[path, name], keras.ops.convert_to_numpy(slot))
    assert len(optimizer.variables) == count
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply(grads[:1], [known[1]])


@pytest.mark.parametrize("name", BUILT_IN)
def test_building_anew_keeps_what_is_known(name):
    optimizer, known = made(name, use_ema=True, gradient_accumulation_steps=2), variables()
    optimizer.build(known[:2])
    for i, variable in enumerate(optimizer.variables[2:]):
        variable.assign(keras.ops.ones(variable.shape, variable.dtype) * (i + 1))
    before = {key: np.array(keras.ops.convert_to_numpy(v)) for key, v in internals.slots(optimizer).items()}
    internals.build_on(optimizer, [known[2], known[1]])
    after = {key: np.array(keras.ops.convert_to_numpy(v)) for key, v in internals.slots(optimizer).items()}
    assert {path for path, _ in after} <= {known[1].path, known[2].path}
    assert all(np.array_equal(before[key], after[key]) for key in after if key[0] == known[1].path)
    assert len(optimizer.variables) == len({id(v) for v in optimizer.variables})


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_step_goes_through_the_three_methods(name):
    optimizer, known = made(name, weight_decay=0.1), variables()
    (seam,) = internals.build_on(optimizer, known).seams
    rate, update, decay = seam._stock_rate, seam._stock_update, seam._stock_decay
    calls = []
    seam._stock_rate = lambda: (calls.append("rate"), rate())[1]
    seam._stock_update = lambda *a: (calls.append("update"), update(*a))[1]
    seam._stock_decay = lambda *a: (calls.append("decay"), decay(*a))[1]
    optimizer.apply([keras.ops.ones((2, 3))] * 3, known)
    assert set(calls) == {"rate", "update", "decay"}


def test_the_signatures_of_the_three_methods():
    base = keras.optimizers.Optimizer
    assert list(inspect.signature(base._get_current_learning_rate).parameters) == ["self"]
    assert list(inspect.signature(base._backend_update_step).parameters) == [
        "self",
        "grads",
        "trainable_variables",
        "learning_rate",
    ]
    assert list(inspect.signature(base._apply_weight_decay).parameters) == ["self", "variables"]


def test_an_optimizer_inside_another():
    inner = keras.optimizers.Adam(0.1)
    assert internals.stepping(keras.optimizers.LossScaleOptimizer(inner)) == [inner]
    if hasattr(keras.optimizers, "MultiOptimizer"):
        chosen = keras.optimizers.OptimizerMap(inner, {"a.*": keras.optimizers.SGD(0.1)})
        assert len(internals.stepping(keras.optimizers.MultiOptimizer(chosen))) == 2


def test_savers_carry_the_attachment(tmp_path):
    def model():
        made = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
        made.compile(keras.optimizers.Adam(0.1), "mse")
        return made

    saved, path = model(), tmp_path / "model.weights.h5"
    held = internals.build_on(saved.optimizer, saved.trainable_variables)
    held.store = lambda: {"schedule": np.arange(3), "best_0": np.ones((2, 2), "float32")}
    saved.save_weights(path)
    loaded = model()
    other = internals.build_on(loaded.optimizer, loaded.trainable_variables)
    loaded.load_weights(path)
    np.testing.assert_array_equal(other.loaded["schedule"], [0, 1, 2])
    np.testing.assert_array_equal(other.loaded["best_0"], np.ones((2, 2)))

    without = model()
    without.optimizer.build(without.trainable_variables)
    without.load_weights(path)  # a reader that knows nothing of it
    plain = tmp_path / "plain.weights.h5"
    without.save_weights(plain)
    other.loaded = {}
    loaded.load_weights(plain)  # a file without it
    assert other.loaded == {}


def test_the_graph():
    inputs = keras.layers.Input((4,))
    shared = keras.layers.Dense(4, name="shared")
    one = shared(inputs)
    two = shared(keras.layers.ReLU(name="relu")(one))
    model = keras.Model(inputs, keras.layers.Add(name="add")([one, two]))
    units = internals.graph_units(model)
    parents = {unit.name: [p.name for p in internals.graph_parents(model)[id(unit)]] for unit in units}
    assert sorted(parents["add"]) == ["shared", "shared"]
    assert parents["relu"] == ["shared"]
    assert sorted(parents["shared"]) == sorted([inputs._keras_history.operation.name, "relu"])


def test_layers_inside_a_layer():
    inner = keras.layers.Dense(1)
    assert internals.sublayers(keras.layers.TimeDistributed(inner)) == [inner]
    assert internals.sublayers(inner) == []


def test_the_trainable_flag_recurses_into_sublayers_and_variables():
    inner = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    outer = keras.Sequential([inner, keras.layers.Dense(1)])
    outer.trainable = False
    assert [layer.trainable for layer in inner.layers] == [False]
    outer.trainable = True
    inner.layers[-1].trainable = False
    assert len(outer.trainable_variables) == 2
