"""What building a cache and training from it hold in memory: a few shards, however large the set."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

SHARD = 8 * 2**20
SCRIPT = """
    import dataclasses, resource, keras, kerasxfer

    images = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(16, 3, padding="same", trainable=False)(images)
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(
        keras.layers.Conv2D(2, 3, strides=4)(x))))
    model = keras.Model(images, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    folder = kerasxfer.ImageFolder({images!r}, (64, 64), 32, seed=0)
    cache = kerasxfer.BottleneckCache({cache!r}, verbose=0)
    cache.settings = dataclasses.replace(cache.settings, shard_bytes={shard})
    cache.build(model, folder)
    cache.fit(model, folder, epochs=1, verbose=0, shuffle=False)
    (row,) = cache.list()
    print(row["bytes"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def bytes_and_peak(tmp_path, count):
    folder = tmp_path / f"images-{count}"
    generator = np.random.default_rng(0)
    for name in "ab":
        (folder / name).mkdir(parents=True)
        for k in range(count // 2):
            pixels = generator.integers(0, 255, (8, 8, 3), dtype="uint8")
            Image.fromarray(pixels).save(folder / name / f"{k}.bmp")
    cache = tmp_path / f"cache-{count}"
    script = textwrap.dedent(SCRIPT).format(images=str(folder), cache=str(cache), shard=SHARD)
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    return map(int, output.splitlines()[-1].split())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_times_the_images_take_no_more_memory(tmp_path):
    small, peak = bytes_and_peak(tmp_path, 100)
    large, larger_peak = bytes_and_peak(tmp_path, 1000)
    assert large > 9 * small > 27 * SHARD
    assert larger_peak - peak < 4 * SHARD, f"{peak / 1e6:.0f} MB, then {larger_peak / 1e6:.0f} MB"
