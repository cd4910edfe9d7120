"""Training on several devices: two virtual CPUs, by `keras.distribution` on JAX and `tf.distribute` on TensorFlow.

Each in a process of its own, because devices are made before a backend starts.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

SCRIPT = """
    import contextlib, json, sys
    sys.path.insert(0, {tests!r})
    scope = contextlib.nullcontext
    {devices}
    import conftest, keras, kerasxfer
    import numpy as np
    from kerasxfer import Stage

    x = np.random.default_rng(0).integers(0, 255, (20, 16, 16, 3)).astype("float32")
    y = (np.arange(20) % 3).astype("int32")
    stages = [
        Stage(epochs=1, learning_rate=1e-3),
        Stage("block3", epochs=1, learning_rate=1e-3),
        Stage("block2", learning_rate=1e-3, layer_decay=0.5, warmup=0.5),
    ]

    def trained(cached):
        with scope():
            keras.utils.set_random_seed(7)
            model = conftest.small_model(dropout=0.0)
            for layer in model.layers:
                layer.trainable = layer.name == "dense"
            model.compile("adam", "sparse_categorical_crossentropy", jit_compile={jit})
        callbacks = [kerasxfer.callbacks.ProgressiveUnfreezing(stages, verbose=0)]
        fit = kerasxfer.BottleneckCache({cache!r}, verbose=0).fit if cached else keras.Model.fit
        history = fit(
            model, x, y, batch_size=8, epochs=3, validation_data=(x[:8], y[:8]), shuffle=False, verbose=0,
            callbacks=callbacks,
        )
        return history.history["loss"] + history.history["val_loss"]

    print(json.dumps({{"devices": {count}, "losses": [trained(cached) for cached in {runs}]}}))
"""

MIRRORED = """
    import tensorflow as tf
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    scope = strategy.scope
"""

DATA_PARALLEL = """
    import keras
    devices = keras.distribution.list_devices("cpu")
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
"""


def losses(tmp_path, devices, count, runs):
    backend = keras.backend.backend()
    script = SCRIPT.format(
        tests=str(Path(__file__).parent), devices=textwrap.indent(textwrap.dedent(devices), "    ").strip(),
        jit=backend == "jax", cache=str(tmp_path), count=count, runs=runs,
    )  # fmt: skip
    environment = {**os.environ, "KERAS_BACKEND": backend}
    if backend == "jax" and devices:
        environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    command = [sys.executable, "-c", textwrap.dedent(script)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert not result.returncode, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="`keras.distribution` is for JAX")
def test_a_schedule_on_two_devices_is_that_on_one_with_the_cache_and_without(tmp_path):
    backend = keras.backend.backend()
    devices, count = (
        (MIRRORED, "strategy.num_replicas_in_sync")
        if backend == "tensorflow"
        else (DATA_PARALLEL, "len(conftest.small_model().weights[0].value.sharding.device_set)")
    )
    (expected,) = losses(tmp_path / "one", "", 1, [False])["losses"]
    several = losses(tmp_path / "two", devices, count, [False, True])
    assert several["devices"] == 2
    for found in several["losses"]:
        np.testing.assert_allclose(found, expected, rtol=1e-4)
