"""On a Keras that nobody has tested, kerasxfer works or names what changed: it never half-works."""

import re

import keras
import numpy as np
import pytest

from kerasxfer import keras_internals as internals
from kerasxfer.keras_internals import contract
from kerasxfer.keras_internals.models import run_graph

CONTRACTS = [each for each in vars(contract).values() if isinstance(each, contract.Contract)]


def dense_model():
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    return model


USES = {
    "state": lambda model: internals.build_on(model.optimizer, model.trainable_variables),
    "graph": lambda model: run_graph(model._functional, model.inputs, lambda layer, *args, **kwargs: layer(*args)),
    "parents": internals.graph_parents,
    "functions": internals.remake_functions,
}


@pytest.fixture(autouse=True)
def newer_keras(monkeypatch):
    monkeypatch.setattr(keras, "__version__", "3.99.1")
    contract._check_once.cache_clear()
    yield
    contract._check_once.cache_clear()


@pytest.mark.parametrize("each", CONTRACTS, ids=lambda each: each.rule)
def test_this_keras_keeps_every_contract(each):
    each.check()


def test_checking_leaves_the_seed_and_the_automatic_names_alone():
    for each in CONTRACTS:
        each.check()
    drawn = keras.ops.convert_to_numpy(keras.random.uniform((3,)))
    layers = [keras.layers.Dense(1), keras.layers.Activation("relu"), keras.Sequential()]
    assert [layer.name for layer in layers] == ["dense", "activation", "sequential"]
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(drawn, keras.ops.convert_to_numpy(keras.random.uniform((3,))))


@pytest.mark.parametrize("use", USES)
def test_an_untested_keras_that_keeps_the_contracts_is_used_silently(use, capfd):
    USES[use](dense_model())
    assert capfd.readouterr().out == ""


def gone(owner, name):
    """A change of Keras that renames a method."""
    return lambda monkeypatch: monkeypatch.delattr(next(base for base in owner.__mro__ if name in vars(base)), name)


def another_signature(monkeypatch):
    backend_class = type(keras.optimizers.SGD())  # on PyTorch a subclass with a step of its own
    own = backend_class._backend_update_step
    monkeypatch.setattr(backend_class, "_backend_update_step", lambda self, pairs, rate: own(self, pairs, pairs, rate))


def step_that_goes_past_weight_decay(monkeypatch):
    monkeypatch.setattr(
        keras.optimizers.SGD, "apply", lambda self, grads, variables: self._backend_update_step(grads, variables, 0.1)
    )


def savers_that_pass_by(monkeypatch):
    monkeypatch.setattr("keras.src.saving.saving_lib._walk_saveable", lambda saveable: iter(()))


def one_argument_less(monkeypatch):
    monkeypatch.setattr(keras.Model, "make_test_function", lambda self: None)


CHANGES = {
    "the list of variables is gone": (gone(keras.optimizers.Adam, "_untrack_variable"), "state"),
    "the rate is asked elsewhere": (gone(keras.optimizers.SGD, "_get_current_learning_rate"), "state"),
    "the step takes pairs": (another_signature, "state"),
    "weight decay is elsewhere": (step_that_goes_past_weight_decay, "state"),
    "the savers pass by": (savers_that_pass_by, "state"),
    "the graph runs otherwise": (gone(keras.Function, "_run_through_graph"), "graph"),
    "functions are made once": (one_argument_less, "functions"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_keras_that_changed_a_contract_is_refused_before_anything_is_touched(change, monkeypatch):
    break_keras, use = CHANGES[change]
    model = dense_model()
    before = vars(model.optimizer).copy()
    break_keras(monkeypatch)
    with pytest.raises(internals.UnsupportedKerasError, match=re.escape("Keras 3.99.1")) as refusal:
        USES[use](model)
    assert "pip install 'keras~=3.15.0'" in str(refusal.value)
    assert any(each.rule in str(refusal.value) for each in CONTRACTS)
    assert vars(model.optimizer).keys() == before.keys()


def test_a_tested_keras_is_not_checked(monkeypatch):
    monkeypatch.setattr(keras, "__version__", f"{contract.TESTED[0]}.7")
    monkeypatch.setattr(contract.Contract, "check", lambda self: pytest.fail(self.rule))
    for use in USES.values():
        use(dense_model())
