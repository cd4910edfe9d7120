"""What features depend on: never stale, never built without need; copies; features for loops of one's own; builders."""

import itertools
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import kerasxfer
from kerasxfer.bottleneck.boundary import find_boundary, trained_now
from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.fingerprint import fingerprint
from kerasxfer.bottleneck.graph import trace
from kerasxfer.bottleneck.job import check_suffix
from kerasxfer.bottleneck.sources import as_source


def key(model, **conditions):
    graph = trace(model)
    return fingerprint(graph, find_boundary(graph, trained_now(model, graph)).position, **conditions)


@pytest.fixture
def count_builds(make_folder, make_model, tmp_path):
    """Build the features of a folder and say how many images were computed for it."""
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)

    def count(model=None, **kwargs):
        before = sum(row["rows"] for row in cache.list())
        cache.build(model or make_model(), make_folder(**kwargs))
        return sum(row["rows"] for row in cache.list()) - before

    return count


def test_the_second_model_in_a_process_has_the_same_key(make_model):
    automatic = [
        keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, kernel_initializer="ones")])
        for _ in range(2)
    ]
    assert automatic[0].layers[0].name != automatic[1].layers[0].name
    keys = [key(keras.Sequential([model, keras.layers.Dense(2)])) for model in automatic if not freeze(model)]
    assert keys[0] == keys[1]
    assert key(make_model()) == key(make_model())
    assert key(make_model(nested=True)) == key(make_model())


def freeze(model):
    model.trainable = False


@pytest.mark.parametrize("layer", ["block1_conv", "block2_bn"])
def test_other_weights_are_another_key(make_model, layer):
    model = make_model()
    before = key(model)
    variable = model.get_layer(layer).variables[-1]
    value = keras.ops.convert_to_numpy(variable)
    variable.assign(value + 1e-6)
    assert key(model) != before
    variable.assign(value)
    assert key(model) == before
    assert key(model, image_size=[1, 2]) != before


def test_the_head_and_the_trained_block_do_not_matter(make_model):
    model = make_model()
    before = key(model)
    model.get_layer("block3_conv").set_weights([w * 2 for w in model.get_layer("block3_conv").get_weights()])
    assert key(model) == before


def test_files_added_renamed_and_removed(count_builds, image_folder):
    assert count_builds() == 22
    assert count_builds() == 0
    (image_folder / "a" / "0.png").rename(image_folder / "b" / "moved.png")
    (image_folder / "a" / "1.png").unlink()
    assert count_builds() == 0
    Image.fromarray(np.full((16, 16, 3), 7, "uint8")).save(image_folder / "c" / "new.png")
    assert count_builds() == 1


def test_the_same_name_size_and_time_with_other_pixels(count_builds, image_folder):
    path = image_folder / "a" / "0.png"
    for pixel in (1, 2):
        Image.fromarray(np.full((16, 16, 3), pixel, "uint8")).save(path, compress_level=0)
        os.utime(path, (1_000_000, 1_000_000))
        assert count_builds() == (22 if pixel == 1 else 1)


def test_another_resize_or_size_is_another_key(count_builds, make_model):
    from kerasxfer_serving.images import ImagePolicy

    assert count_builds() == 22
    assert count_builds(policy=ImagePolicy(interpolation="nearest")) == 22


def test_images_of_another_size_are_other_conditions(make_folder, image_folder):
    large = kerasxfer.ImageFolder(image_folder, (18, 16), 4, seed=3)
    assert as_source(make_folder()).conditions != as_source(large).conditions
    assert as_source(make_folder()).conditions == as_source(make_folder(shuffle=False)).conditions


def test_a_disk_that_is_too_small_is_known_beforehand(make_model, make_folder, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted")
    try:
        cache = kerasxfer.BottleneckCache(disk / "cache", verbose=0)
        prefix, _ = kerasxfer.split_at_boundary(make_model())
        with pytest.raises(CacheError, match=r"need .*B, and .* has .*B left. Free some space"):
            cache.features(prefix, make_folder())
        (stage,) = cache.plan(make_model(), make_folder()).stages
        assert stage.decision == "don't cache"
        assert not list(disk.rglob("shard-*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_nan_names_the_image(make_folder, tmp_path):
    # No pooling and no ReLU, which swallow NaN on some backends.
    layers = [keras.layers.Conv2D(2, 3, trainable=False, name="frozen"), keras.layers.Flatten(name="flatten")]
    model = keras.Sequential([keras.Input((16, 16, 3)), *layers, keras.layers.Dense(3)])
    layers[0].set_weights([weights * np.nan for weights in layers[0].get_weights()])
    with pytest.raises(CacheError, match=r"NaN or infinity at `flatten` for 'a/0.png'"):
        kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0).build(model, make_folder())


def test_float16_overflow_names_the_way_out(make_model, make_folder, tmp_path):
    model = make_model()
    norm = model.get_layer("block2_bn")
    norm.set_weights([norm.get_weights()[0] * 1e7, *norm.get_weights()[1:]])
    with pytest.raises(CacheError, match=r"overflow float16.*dtype=None"):
        kerasxfer.BottleneckCache(tmp_path / "cache", dtype="float16", verbose=0).build(model, make_folder())
    kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0).build(model, make_folder())


def cut(shard, tenth):
    os.truncate(shard, shard.stat().st_size * tenth // 10)


def flip(shard, tenth):
    data = bytearray(shard.read_bytes())
    data[len(data) * tenth // 10] ^= 64
    shard.write_bytes(data)


def change_places(shard, tenth):
    first, second, *_ = sorted(shard.parent.glob("*.npy"))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


DAMAGES = {
    "cut": cut,
    "flipped": flip,
    "removed": lambda shard, tenth: shard.unlink(),
    "changed places": change_places,
    "sidecar cut": lambda shard, tenth: cut(shard.with_suffix(".json"), tenth),
    "sidecar garbage": lambda shard, tenth: shard.with_suffix(".json").write_text("garbage"),
    "sidecar removed": lambda shard, tenth: shard.with_suffix(".json").unlink(),
}


@pytest.fixture
def small_shards(tmp_path):
    """A cache of shards of eight rows."""
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    cache.settings = replace(cache.settings, shard_bytes=8 * 512)
    return cache


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_mended_by_the_next_fit(small_shards, make_model, make_folder, run_fit, damage):
    cache = small_shards
    expected, _ = run_fit(cache.fit, make_model(), make_folder(), shuffle=False)
    DAMAGES[damage](sorted(cache.directory.rglob("*.npy"))[0], 6)
    mended, _ = run_fit(cache.fit, make_model(), make_folder(), shuffle=False)
    assert mended == expected
    assert cache.verify() == []


@pytest.mark.parametrize(
    ("damage", "step"), [("cut", 0), ("flipped", 3), ("removed", 7), ("changed places", 6), ("sidecar garbage", 0)]
)
def test_damage_during_a_fit_ends_in_the_right_features_or_in_a_remedy_that_helps(
    small_shards, make_model, make_folder, run_fit, damage, step
):
    class Damage(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if next(steps) == step:
                for shard in sorted(small_shards.directory.rglob("*.npy")):
                    DAMAGES[damage](shard, 6)

    steps = itertools.count()
    expected, _ = run_fit(small_shards.fit, make_model(), make_folder(), epochs=2, shuffle=False)
    try:
        losses, _ = run_fit(
            small_shards.fit, make_model(), make_folder(), epochs=2, shuffle=False, callbacks=[Damage()]
        )
    except CacheError as error:
        assert "Run again" in str(error)  # noqa: PT017
        losses, _ = run_fit(small_shards.fit, make_model(), make_folder(), epochs=2, shuffle=False)
    assert losses == expected


def test_as_many_copies_as_epochs_are_fit_with_augmentation(make_model, make_folder, run_fit, assert_same, tmp_path):
    augmentation = kerasxfer.layers.Augmentation(horizontal_flip=True, width_shift_range=0.3)
    losses, _ = run_fit(make_model().fit, make_folder(augmentation=augmentation), epochs=2, shuffle=False)
    plain, _ = run_fit(make_model().fit, make_folder(), epochs=2, shuffle=False)
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", copies=2, verbose=0)
    cached, _ = run_fit(cache.fit, make_model(), make_folder(augmentation=augmentation), epochs=2, shuffle=False)
    assert losses != plain
    assert_same(cached, losses)
    assert cache.list()[0]["rows"] == 44
    with pytest.raises(CacheError, match=r"augments at random.*copies=K"):
        kerasxfer.BottleneckCache(tmp_path).fit(make_model(), make_folder(augmentation=augmentation))


@pytest.mark.parametrize("copies", [1, 3])
def test_copies_of_augmenting_layers(make_model, arrays, tmp_path, copies):
    x, y = arrays
    base = make_model()
    images = keras.Input((16, 16, 3))
    augmented = keras.layers.RandomTranslation(0.3, 0.3, seed=1)(keras.layers.RandomFlip(seed=2)(images))
    model = keras.Model(images, base(augmented))
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    cache = kerasxfer.BottleneckCache(tmp_path, copies=copies, verbose=0)
    history = cache.fit(model, x, y, epochs=2, validation_data=(x, y), verbose=0)
    assert sorted(row["rows"] for row in cache.list()) == sorted([32, 32 * copies])
    assert np.isfinite(history.history["val_loss"]).all()
    plain = kerasxfer.BottleneckCache(tmp_path / "plain", verbose=0)
    prefix, _ = kerasxfer.split_at_boundary(base)
    features = plain.features(prefix, x).array()
    (augmented_shelf,) = [row for row in cache.list() if row["rows"] == 32 * copies][:1]
    shards = sorted((tmp_path / "v1" / augmented_shelf["fingerprint"]).glob("*.npy"))
    stored = np.concatenate([np.load(shard) for shard in shards])
    assert copies == 1 or len({row.tobytes() for row in stored}) == 32 * copies
    assert stored.shape[1:] == features.shape[1:]


def test_features_for_a_loop_of_ones_own(make_model, make_folder, tmp_path):
    model, folder = make_model(), make_folder()
    prefix, suffix = kerasxfer.split_at_boundary(model)
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    features = cache.features(prefix, folder)
    images = folder.load(np.arange(22))
    np.testing.assert_allclose(features.array(), prefix.predict(images, verbose=0), rtol=1e-5, atol=1e-5)
    batch, labels = features[1]
    np.testing.assert_array_equal(labels, folder.targets(folder.batch_rows(1)))
    np.testing.assert_array_equal(batch, features.array()[folder.batch_rows(1)])
    suffix.compile("adam", "sparse_categorical_crossentropy")
    suffix.fit(features, epochs=2, verbose=0)
    pooled = kerasxfer.BottleneckCache(tmp_path / "cache", pooled=True, verbose=0).features(prefix, folder)
    np.testing.assert_allclose(pooled.array(), features.array().mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_parts_of_a_build_make_up_the_whole(make_model, make_folder, tmp_path):
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    cache.settings = replace(cache.settings, shard_bytes=4 * 512)
    rows = []
    for shard in ((2, 3), (0, 3), (0, 3), (1, 3)):
        cache.build(make_model(), make_folder(), shard=shard)
        rows.append(cache.list()[0]["rows"])
    assert rows == [6, 14, 14, 22]
    with pytest.raises(ValueError, match=r"`shard` must be \(i, n\)"):
        cache.build(make_model(), make_folder(), shard=(3, 3))


@pytest.mark.slow
def test_two_builders_at_once_share_the_work(image_folder, tmp_path):
    script = tmp_path / "build.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import dataclasses, keras, conftest, kerasxfer
        keras.utils.set_random_seed(7)
        model = conftest.small_model()
        model.compile("adam", "mse", jit_compile=False)
        folder = kerasxfer.ImageFolder({str(image_folder)!r}, (16, 16), 4, seed=3)
        cache = kerasxfer.BottleneckCache({str(tmp_path / "cache")!r}, verbose=0)
        cache.settings = dataclasses.replace(cache.settings, shard_bytes=4 * 512)
        print(cache.build(model, folder).pictures)
        """)
    )
    builders = [subprocess.Popen([sys.executable, str(script)]) for _ in range(2)]
    assert [builder.wait() for builder in builders] == [0, 0]
    cache = kerasxfer.BottleneckCache(tmp_path / "cache")
    assert (cache.list()[0]["rows"], cache.list()[0]["shards"]) == (22, 6)
    assert cache.verify() == []


class Drifting(keras.layers.Layer):
    """Does in training what its configuration does not tell: another result, a state, or a loss."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how

    def build(self, shape):
        self.count = self.add_weight(name="count", initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if training and self.how == "loss":
            self.add_loss(keras.ops.mean(x))
        if training and self.how == "state":
            self.count.assign_add(1.0)
        return x * 1.5 if training and self.how == "result" else x + 0.0


@pytest.mark.parametrize(
    ("how", "message"), [("result", "not what the frozen part gives"), ("state", "count"), ("loss", "adds a loss")]
)
def test_a_layer_that_differs_in_training_is_found_out(arrays, tmp_path, how, message):
    x, y = arrays
    images = keras.Input((16, 16, 3))
    features = Drifting(how, name="drifting")(keras.layers.Conv2D(4, 3, trainable=False, name="frozen")(images))
    model = keras.Model(images, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(features)))
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    with pytest.raises(CacheError, match=rf"{message}.*model.fit"):
        kerasxfer.BottleneckCache(tmp_path, verbose=0).fit(model, x / 255, y, verbose=0)


def test_a_suffix_that_answers_otherwise_is_found_out(make_model, arrays):
    x, _ = arrays
    model, other = make_model(), make_model()
    prefix, suffix = kerasxfer.split_at_boundary(model)
    features = prefix(x[:4])
    check_suffix(model, suffix, x[:4], features)
    other.get_layer("dense").set_weights([weights * 1.1 for weights in other.get_layer("dense").get_weights()])
    with pytest.raises(CacheError, match=r"does not answer as its layers.*model.fit"):
        check_suffix(other, suffix, x[:4], features)
