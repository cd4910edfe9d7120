"""On a CUDA device: `KERAS_BACKEND=torch pytest -m gpu tests/kerasxfer/test_gpu.py`, and with jax and tensorflow."""

import os
import subprocess
import sys

import numpy as np
import pytest
from kerasxfer_serving.runtime.resources import cuda_devices

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not cuda_devices(), reason="no CUDA device")]

TRAIN = """
import sys
import keras
import numpy as np
import kerasxfer
from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing

folder, cache, out = sys.argv[1:]
keras.utils.set_random_seed(0)
data = kerasxfer.ImageFolder(folder, (48, 48), batch_size=8, seed=0)
model = kerasxfer.image_classifier("DemoVGG", data.class_names, (48, 48))
model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
stages = [Stage(epochs=2, learning_rate=0.01), Stage("block5", epochs=2, learning_rate=0.001)]
arguments = dict(epochs=4, verbose=0, callbacks=[ProgressiveUnfreezing(stages)])
if cache == "none":
    history = model.fit(data, **arguments)
else:
    history = kerasxfer.BottleneckCache(cache, verbose=0).fit(model, data, **arguments)
weights = {str(number): weight for number, weight in enumerate(model.get_weights())}
np.savez(out, losses=history.history["loss"], **weights)
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    from kerasxfer.demo import draw_folder

    return draw_folder(tmp_path_factory.mktemp("images") / "classes", per_class=16, seed=1)


def train(images, out, *, cache="none", card=True):
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if not card:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", TRAIN, str(images), str(cache), str(out)]
    subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    with np.load(out) as saved:
        return dict(saved)


def test_unfreezing_on_the_card_is_that_of_the_cpu(images, tmp_path):
    card = train(images, tmp_path / "card.npz")
    cpu = train(images, tmp_path / "cpu.npz", card=False)
    np.testing.assert_allclose(card["losses"], cpu["losses"], rtol=0.02)
    for name, weight in cpu.items():
        np.testing.assert_allclose(card[name], weight, atol=0.01)


def test_a_cache_written_on_the_card_is_read_there(images, tmp_path):
    plain = train(images, tmp_path / "plain.npz")
    first = train(images, tmp_path / "first.npz", cache=tmp_path / "cache")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    second = train(images, tmp_path / "second.npz", cache=tmp_path / "cache")
    assert files
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    np.testing.assert_allclose(first["losses"], plain["losses"], rtol=0.02)
    np.testing.assert_allclose(second["losses"], first["losses"], rtol=0.002)
