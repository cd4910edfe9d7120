"""Cached against end-to-end training of VGG16 at 150 x 150, measured side by side in one run.

    KERAS_BACKEND=tensorflow python benchmarks/bottleneck_cache.py PICTURES --pictures 128 --out table.md

Speed does not depend on what the weights know, so they are random (He), and nothing is downloaded. Every figure is the
fastest epoch after the one that compiles, each side at its better `jit_compile` setting (TensorFlow; the other backends
have one). The schedule's gain is calculated from the measured epochs and the measured build.
"""

import argparse
import math
import os
import platform
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import kerasxfer

SIZE = (150, 150)
STAGES = {"head": (), "block5": ("block5",)}


class EpochTimes(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)


def make_model(trained, jit_compile):
    keras.utils.set_random_seed(0)
    backbone = keras.applications.VGG16(weights=None, include_top=False, input_shape=(*SIZE, 3))
    for layer in backbone.layers:
        layer.trainable = layer.name.startswith(trained) if trained else False
        if layer.weights:
            kernel, bias = layer.get_weights()
            scale = math.sqrt(2 / np.prod(kernel.shape[:-1]))
            layer.set_weights([np.random.default_rng(0).normal(0, scale, kernel.shape), bias])
    x = keras.layers.Rescaling(1 / 127.5, -1)(backbone.input)
    x = keras.layers.Flatten(name="flatten")(backbone(x))
    x = keras.layers.Dense(256, activation="relu", name="hidden")(x)
    outputs = keras.layers.Dense(1, activation="sigmoid", name="predictions")(keras.layers.Dropout(0.5)(x))
    model = keras.Model(backbone.input, outputs)
    model.compile(keras.optimizers.Adam(1e-5), "binary_crossentropy", metrics=["accuracy"], jit_compile=jit_compile)
    return model


def settings():
    return (False, True) if keras.backend.backend() == "tensorflow" else ("auto",)


def fastest_epoch(fit, epochs):
    times = EpochTimes()
    fit(epochs=epochs, verbose=0, callbacks=[times])
    return min(times.seconds[1:])


def best(measure):
    """Fastest epoch over the settings of `jit_compile`, and the setting."""
    return min((measure(jit), jit) for jit in settings())


def measure_end_to_end(trained, data):
    return best(lambda jit: fastest_epoch(lambda **kw: make_model(trained, jit).fit(data, shuffle=False, **kw), 2))


def measure_cached(trained, data, directory):
    def measure(jit):
        cache = kerasxfer.BottleneckCache(directory, verbose=0, jit_compile=jit if isinstance(jit, bool) else "auto")
        model = make_model(trained, settings()[0])  # one setting for the prefix, hence one set of features
        return fastest_epoch(lambda **kw: cache.fit(model, data, shuffle=False, **kw), 6)

    return best(measure)


def measure_in_memory(trained, data, directory, jit):
    """The same suffix on arrays in memory."""
    model = make_model(trained, settings()[0])
    prefix, suffix = kerasxfer.split_at_boundary(model)
    features = kerasxfer.BottleneckCache(directory, verbose=0).features(prefix, data).array()
    suffix.compile(keras.optimizers.Adam(1e-5), "binary_crossentropy", metrics=["accuracy"], jit_compile=jit)
    targets = data.targets(np.arange(len(features)))
    return fastest_epoch(lambda **kw: suffix.fit(features, targets, batch_size=data.batch_size, **kw), 6)


def measure_build(data, directory):
    """Seconds of one tapping pass, and of `predict` over the same pictures, decoded beforehand."""
    model = make_model(("block5",), settings()[0])
    prefix, _ = kerasxfer.split_at_boundary(model)
    prefix.jit_compile = model.jit_compile
    images = data.load(np.arange(len(data.paths)))
    prefix.predict(images[: data.batch_size], batch_size=data.batch_size, verbose=0)
    seconds = {"predict": [], "build": []}
    for repeat in range(2):
        start = time.perf_counter()
        prefix.predict(images, batch_size=data.batch_size, verbose=0)
        seconds["predict"].append(time.perf_counter() - start)
        start = time.perf_counter()
        kerasxfer.BottleneckCache(Path(directory) / f"b{repeat}", verbose=0).build(model, data)
        seconds["build"].append(time.perf_counter() - start)
    return min(seconds["build"]), min(seconds["predict"])


def measure(data, directory, epochs=10):
    count = len(data.paths)
    build, predict = measure_build(data, directory)
    whole, cached = {}, {}
    for stage, trained in STAGES.items():
        whole[stage], whole_jit = measure_end_to_end(trained, data)
        cached[stage], cached_jit = measure_cached(trained, data, directory)
        memory = measure_in_memory(trained, data, directory, cached_jit)
        target = {"head": 100, "block5": 4.5}[stage]
        for name, seconds, jit in (("end to end", whole[stage], whole_jit), ("cached", cached[stage], cached_jit)):
            yield f"{stage}: {name}, jit_compile={jit}", f"{count / seconds:.1f} pictures/s", "", ""
        yield f"{stage}: epoch", "", f"{whole[stage] / cached[stage]:.1f}x", f">= {target}x"
        yield f"{stage}: cache against arrays in memory", "", f"{memory / cached[stage]:.2f}", ">= 0.9"
    end_to_end = epochs * sum(whole.values())
    with_cache = build + epochs * sum(cached.values())
    schedule = f"head + block5, {epochs} epochs each, with the build"
    yield schedule, f"{with_cache:.0f} s, not {end_to_end:.0f} s", f"{end_to_end / with_cache:.1f}x", ">= 6x"
    yield "build", f"{count / build:.1f} pictures/s", f"{predict / build:.2f} of predict", ">= 0.9"


def link_some(source, target, count):
    """A folder of the first pictures of each class."""
    classes = sorted(path for path in Path(source).iterdir() if path.is_dir())
    for folder in classes:
        (target / folder.name).mkdir(parents=True)
        for picture in sorted(folder.iterdir())[: count // len(classes)]:
            (target / folder.name / picture.name).symlink_to(picture.resolve())
    return target


def device():
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    try:
        devices = keras.distribution.list_devices("gpu")
    except RuntimeError:  # JAX, where there is none
        devices = []
    return devices[0] if devices else "CPU"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of two class folders")
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = link_some(arguments.data, Path(directory) / "pictures", arguments.pictures)
        data = kerasxfer.ImageFolder(root, SIZE, arguments.batch_size, label_mode="binary", seed=0)
        where = f"{keras.backend.backend()} on {device()}, {os.cpu_count()} cores, {platform.machine()}"
        lines = [f"VGG16 at 150 x 150, {len(data.paths)} pictures, batch {data.batch_size}, {where}", ""]
        lines += ["| | measured | ratio | target |", "| --- | --- | --- | --- |"]
        print("\n".join(lines), flush=True)
        for row in measure(data, directory):
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
            if arguments.out:
                arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
