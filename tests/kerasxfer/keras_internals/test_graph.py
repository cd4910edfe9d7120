"""What the cache needs of a functional model's graph, and Keras does not promise."""

import keras

from kerasxfer.keras_internals.models import has_graph, run_graph


def test_every_call_of_the_graph_is_made_by_the_function():
    x = images = keras.Input((4,))
    shared = keras.layers.Dense(4, name="shared")
    x = keras.ops.add(shared(shared(x)), 1.0)
    model = keras.Model(images, x)
    calls = []

    def call(operation, *args, **kwargs):
        calls.append(operation.name)
        return operation(*args, **kwargs)

    fresh = keras.Input((4,))
    out = run_graph(model, fresh, call)
    assert calls[:2] == ["shared", "shared"]
    assert len(calls) == 3
    assert keras.Model(fresh, out).output_shape == (None, 4)


def test_only_models_that_are_their_graph_have_one():
    class Own(keras.Model):
        def call(self, x, training=None):
            return x

    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(2)(inputs)
    assert has_graph(keras.Model(inputs, outputs))
    assert has_graph(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    assert not has_graph(keras.Sequential([keras.layers.Dense(2)]))
    assert not has_graph(Own())
    assert not has_graph(Own(inputs, outputs))
    assert not has_graph(keras.layers.Dense(2))
