"""What is a new fingerprint: arguments and code of layers of one's own, not names and not the process."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from kerasxfer.bottleneck.fingerprint import fingerprint
from kerasxfer.bottleneck.graph import trace


def key(layer):
    images = keras.Input((8, 8, 3))
    graph = trace(keras.Model(images, layer(images)))
    return fingerprint(graph, len(graph.steps))


def defined(source, name="Own"):
    """What a module of the user's would define, as if it had been edited between two runs."""
    namespace = {"__name__": "user_module", "keras": keras, "np": np}
    exec(compile(textwrap.dedent(source), "user_module.py", "exec"), namespace)
    return namespace[name]


OWN = """
SCALE = 2.0
def helper(x):
    return x * SCALE
class Base(keras.layers.Layer):
    bias = 1.0
    def shift(self, x):
        return x + self.bias
class Own(Base):
    def __init__(self, pool_name="max", **kwargs):
        super().__init__(**kwargs)
        self.pool_name = pool_name
    @staticmethod
    def gain():
        return 3.0
    @property
    def offset(self):
        return 0.5
    def call(self, x):
        return self.shift(helper(x)) * self.gain() + self.offset
    def compute_output_shape(self, shape):
        return shape
    def get_config(self):
        return {**super().get_config(), "pool_name": self.pool_name}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("helper(x)) *", "helper(x)) /"),
        ("return x * SCALE", "return x / SCALE"),
        ("SCALE = 2.0", "SCALE = 2.5"),
        ("return x + self.bias", "return x - self.bias"),
        ("bias = 1.0", "bias = 1.5"),
        ("return 3.0", "return 4.0"),
        ("return 0.5", "return 0.25"),
    ],
)
def test_other_code_of_a_layer_is_another_key(before, after):
    assert key(defined(OWN)()) != key(defined(OWN.replace(before, after))())


def test_comments_and_places_in_the_file_do_not_matter():
    assert key(defined(OWN)()) == key(defined("# a note\n\n" + OWN.replace("return x *", "# a note\n    return x *"))())


@pytest.mark.parametrize("argument", ["pool_name", "layer_name", "mode_initializer", "seed", "x_constraint"])
def test_every_argument_of_a_layer_of_ones_own_counts(argument):
    own = defined(OWN.replace("pool_name", argument))
    assert key(own(**{argument: "max"})) != key(own(**{argument: "mean"}))
    assert key(own(**{argument: "max"}, name="one")) == key(own(**{argument: "max"}, name="two"))


def test_functions_given_to_keras_layers_count_by_their_code():
    sources = ["def Own(x):\n    return x * 2.0", "def Own(x):\n    return x * 3.0"]
    functions = [defined(source) for source in sources]
    for wrap in (keras.layers.Lambda, keras.layers.Activation):
        assert key(wrap(functions[0])) != key(wrap(functions[1]))
        assert key(wrap(functions[0])) == key(wrap(defined(sources[0])))
    assert key(keras.layers.Lambda(lambda x: x + 1.0)) != key(keras.layers.Lambda(lambda x: x + 2.0))


def test_captured_and_default_values_count():
    def make(captured, default):
        return lambda x, y=default: x * captured + y

    keys = {key(keras.layers.Lambda(make(captured, default))) for captured in (1.0, 2.0) for default in (3.0, 4.0)}
    assert len(keys) == 4
    assert key(keras.layers.Lambda(make(1.0, 3.0))) in keys


def test_a_layer_of_ones_own_inside_one_of_keras_counts():
    inner = [defined(OWN.replace("return 0.5", f"return {offset}")) for offset in (0.5, 0.75)]
    keys = [key(keras.layers.TimeDistributed(own())) for own in inner]
    assert keys[0] != keys[1]


def test_the_class_of_an_argument_counts():
    class Half(keras.layers.Layer):
        def call(self, x):
            return x / 2

        def compute_output_shape(self, shape):
            return shape

    assert key(keras.layers.TimeDistributed(Half())) != key(keras.layers.TimeDistributed(keras.layers.ReLU()))
    assert key(keras.layers.TimeDistributed(keras.layers.ReLU())) == key(
        keras.layers.TimeDistributed(keras.layers.ReLU(name="mine"))
    )


def test_seeds_and_initializers_of_keras_layers_do_not_count():
    ones = {"kernel_initializer": "ones", "bias_initializer": "ones"}
    first = key(keras.layers.Conv2D(2, 3, **ones))
    second = keras.layers.Conv2D(2, 3, kernel_regularizer="l2", kernel_constraint="non_neg")
    second.build((None, 8, 8, 3))
    second.set_weights([np.ones(weight.shape) for weight in second.get_weights()])
    assert key(second) == first


def test_large_arrays_among_the_arguments_count():
    tables = [np.zeros(5000, "float32"), np.zeros(5000, "float32")]
    tables[1][2500] = 1.0  # where `repr` shows dots

    class Table(keras.layers.Layer):
        def __init__(self, table, **kwargs):
            super().__init__(**kwargs)
            self.table = table

        def call(self, x):
            return x + self.table[2500]

        def get_config(self):
            return {**super().get_config(), "table": self.table}

    assert key(Table(tables[0])) != key(Table(tables[1]))


@pytest.mark.slow
def test_another_process_has_the_same_key(tmp_path):
    script = tmp_path / "script.py"
    sets = "x if x.shape[0] in {'a', 'b', 'c'} else x * SCALE"  # the order in a set of texts differs between processes
    script.write_text(
        "import keras\nfrom kerasxfer.bottleneck.fingerprint import fingerprint\n"
        "from kerasxfer.bottleneck.graph import trace\n" + OWN.replace("x * SCALE", sets) + "\n"
        f"x = keras.layers.Lambda(lambda x: {sets})(Own()(images := keras.Input((8, 8, 3))))\n"
        "graph = trace(keras.Model(images, x))\n"
        "print(fingerprint(graph, len(graph.steps)))\n"
    )
    keys = {
        subprocess.run(
            [sys.executable, script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(keys) == 1
