"""Pooled features through the cache that training shares."""

import keras
import numpy as np
from PIL import Image

import kerasxfer
from kerasxfer.probing.features import pooled_features


def test_features_are_the_means_of_what_training_caches(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 256, (40, 40, 3), "uint8")
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    data = kerasxfer.ImageFolder(tmp_path / "data", (64, 64), batch_size=4, shuffle=False)
    model = kerasxfer.image_classifier("DemoVGG", data.class_names, (64, 64))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    features = pooled_features(model, data, cache)
    prefix, _ = kerasxfer.split_at_boundary(model)
    whole = keras.ops.convert_to_numpy(prefix(data.load(range(8))))
    assert features.dtype == np.float32
    assert np.allclose(features, whole.mean(axis=(1, 2)), atol=1e-4)
    written = [row["fingerprint"] for row in cache.list()]
    cache.fit(model, data, epochs=1, verbose=0)
    assert [row["fingerprint"] for row in cache.list()] == written, "training has computed other features"
