"""Fixtures of the `kerasxfer` tests. The backend is `KERAS_BACKEND`'s; one process per backend."""

import keras
import pytest


@pytest.fixture(autouse=True)
def fresh_keras_session():
    """Every test starts from one seed, with automatic layer names and the dtype policy as in a new process."""
    policy = keras.config.dtype_policy()
    keras.backend.clear_session(free_memory=False)  # a full garbage collection costs half a second
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture(scope="module")
def without_graphs():
    """TensorFlow goes step by step: for tests of what lies around short runs, whose time is spent in tracing graphs."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
