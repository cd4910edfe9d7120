"""Cached against end-to-end training of VGG16 at 150 x 150, measured side by side in one run.

    KERAS_BACKEND=tensorflow python benchmarks/bottleneck_cache.py IMAGES --weights FILE --out table.md

`--weights` is a weights file of VGG16 without its top; without it they are random (He), which changes no speed. Every
figure is the fastest epoch after the one that compiles, each side at its better `jit_compile` setting (TensorFlow; the
other backends have one). The head is trained from the cache on more images than the rest, or the few milliseconds that
Keras takes to begin and end an epoch would be most of such an epoch; all figures are per image. The schedule's gain is
calculated from the measured epochs and the measured build, which taps both boundaries. `--curves` trains one schedule
both ways instead, each from the same seed, and draws their losses over each other.
"""

import argparse
import math
import os
import platform
import tempfile
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

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


def make_model(weights, trained, jit_compile):
    keras.utils.set_random_seed(0)
    backbone = keras.applications.VGG16(weights=weights, include_top=False, input_shape=(*SIZE, 3))
    for layer in backbone.layers:
        layer.trainable = layer.name.startswith(trained) if trained else False
        if layer.weights and weights is None:
            kernel, bias = layer.get_weights()
            scale = math.sqrt(2 / np.prod(kernel.shape[:-1]))
            layer.set_weights([np.random.default_rng(0).normal(0, scale, kernel.shape), bias])
    x = kerasxfer.layers.Preprocess("caffe")(backbone.input)
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


def measure_end_to_end(weights, trained, data):
    """Fastest epoch over the settings of `jit_compile`, and the setting."""
    return min(
        (fastest_epoch(partial(make_model(weights, trained, jit).fit, data, shuffle=False), 3), jit)
        for jit in settings()
    )


def measure_cached(weights, trained, data, directory, epochs):
    """Fastest epoch from the cache, and of the same suffix on arrays in memory, in turns; and the setting."""
    results = []
    for jit in settings():
        arguments = (weights, trained, data, directory, jit, epochs)
        seconds = [(cached_epoch(*arguments), epoch_in_memory(*arguments)) for _ in range(2)]
        results.append((*map(min, zip(*seconds, strict=True)), jit))
    return min(results)


def cached_epoch(weights, trained, data, directory, jit, epochs):
    cache = kerasxfer.BottleneckCache(directory, verbose=0, jit_compile=jit if isinstance(jit, bool) else "auto")
    model = make_model(weights, trained, settings()[0])  # one setting for the prefix, hence one set of features
    return fastest_epoch(partial(cache.fit, model, data, shuffle=False), epochs)


def epoch_in_memory(weights, trained, data, directory, jit, epochs):
    model = make_model(weights, trained, settings()[0])
    prefix, suffix = kerasxfer.split_at_boundary(model)
    features = kerasxfer.BottleneckCache(directory, verbose=0).features(prefix, data).array()
    suffix.compile(keras.optimizers.Adam(1e-5), "binary_crossentropy", metrics=["accuracy"], jit_compile=jit)
    targets = data.targets(np.arange(len(features)))
    return fastest_epoch(partial(suffix.fit, features, targets, batch_size=data.batch_size), epochs)


def measure_build(weights, data, directory):
    """Seconds of the pass that fills both shelves, and of `predict` over the same images, decoded beforehand."""
    model = make_model(weights, (), settings()[0])
    prefix, _ = kerasxfer.split_at_boundary(model)
    prefix.jit_compile = model.jit_compile
    images = data.load(np.arange(len(data.paths)))
    prefix.predict(images[: data.batch_size], batch_size=data.batch_size, verbose=0)
    start = time.perf_counter()
    prefix.predict(images, batch_size=data.batch_size, verbose=0)
    predicted = time.perf_counter()
    stages = [kerasxfer.Stage(epochs=1), kerasxfer.Stage("block5")]
    kerasxfer.BottleneckCache(directory, verbose=0).build(model, data, stages)
    return time.perf_counter() - predicted, predicted - start


def measure(weights, some, many, directory, epochs=10):
    """Rows of the table. `many` images are cached, and the head is trained on them; the rest is done with `some`."""
    build, predict = (seconds / len(many.paths) for seconds in measure_build(weights, many, directory))
    whole, cached = {}, {}
    for stage, trained in STAGES.items():
        seconds, whole_jit = measure_end_to_end(weights, trained, some)
        whole[stage] = seconds / len(some.paths)
        data, repeats = {"head": (many, 8), "block5": (some, 3)}[stage]
        seconds, memory, cached_jit = measure_cached(weights, trained, data, directory, repeats)
        cached[stage] = seconds / len(data.paths)
        target = {"head": 100, "block5": 4.5}[stage]
        yield f"{stage}: end to end, jit_compile={whole_jit}", f"{1 / whole[stage]:.1f} images/s", "", ""
        yield f"{stage}: cached, jit_compile={cached_jit}", f"{1 / cached[stage]:.1f} images/s", "", ""
        yield f"{stage}: epoch", "", f"{whole[stage] / cached[stage]:.1f}x", f">= {target}x"
        yield f"{stage}: cache against arrays in memory", "", f"{memory / seconds:.2f}", ">= 0.9"
    end_to_end = epochs * sum(whole.values())
    with_cache = build + epochs * sum(cached.values())
    times = f"{with_cache * 1000:.0f} s per 1,000 images, not {end_to_end * 1000:.0f} s"
    yield f"head + block5, {epochs} epochs each, with the build", times, f"{end_to_end / with_cache:.1f}x", ">= 6x"
    yield "build", f"{1 / build:.1f} images/s", f"{predict / build:.2f} of predict", ">= 0.9"


def draw_curves(weights, data, directory, path):
    """Losses of head and block5, six epochs each, by the cache and without it; return the largest difference."""
    stages = [kerasxfer.Stage(epochs=6), kerasxfer.Stage("block5", epochs=6)]
    losses = {}
    for name, fit in (
        ("end to end", keras.Model.fit),
        ("from the cache", kerasxfer.BottleneckCache(directory, verbose=0, jit_compile=False).fit),
    ):
        unfreezing, times = kerasxfer.callbacks.ProgressiveUnfreezing(stages), EpochTimes()
        callbacks = [kerasxfer.callbacks.SetEpoch(data), unfreezing, times]  # the same orders in both
        model = make_model(weights, (), settings()[0])
        history = fit(model, data, epochs=12, shuffle=False, verbose=0, callbacks=callbacks)
        losses[name] = history.history["loss"], sum(times.seconds)
    figure = Figure(figsize=(6, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    for (name, (loss, seconds)), style in zip(losses.items(), ("o", "-"), strict=True):
        label = f"{name}, {seconds:.0f} s"
        axes.plot(range(1, 13), loss, style, color="#0072B2" if style == "o" else "#D55E00", mfc="none", label=label)
    axes.axvline(6.5, color="#595959", linewidth=0.8)
    axes.text(6.6, axes.get_ylim()[1], "block5 unfrozen", va="top", color="#595959")
    axes.set(xlabel="epoch", ylabel="training loss", title=f"VGG16, {len(data.paths)} images: the same losses")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    return max(abs(a - b) for a, b in zip(*(loss for loss, _ in losses.values()), strict=True))


def link_some(source, target, count):
    """A folder of the first images of each class."""
    classes = sorted(path for path in Path(source).iterdir() if path.is_dir())
    for folder in classes:
        (target / folder.name).mkdir(parents=True)
        for image in sorted(folder.iterdir())[: count // len(classes)]:
            (target / folder.name / image.name).symlink_to(image.resolve())
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
    parser.add_argument("--images", type=int, default=96, help="to train on")
    parser.add_argument("--cached-images", type=int, default=1024, help="to cache, and to train the head on")
    parser.add_argument("--weights", type=Path, help="weights file of VGG16 without its top")
    parser.add_argument(
        "--curves", type=Path, help="draw the losses of both ways into this image, in place of the table"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        some, many = (
            kerasxfer.ImageFolder(
                link_some(arguments.data, Path(directory) / f"images-{count}", count), SIZE, arguments.batch_size,
                label_mode="binary", seed=0,
            )
            for count in (arguments.images, arguments.cached_images)
        )  # fmt: skip
        where = f"{keras.backend.backend()} on {device()}, {os.cpu_count()} cores, {platform.machine()}"
        images = f"{len(some.paths)} images, {len(many.paths)} to cache and for the cached head"
        lines = [f"VGG16 at 150 x 150, {images}, batch {some.batch_size}, {where}", ""]
        lines += ["| | measured | ratio | target |", "| --- | --- | --- | --- |"]
        if arguments.curves:
            difference = draw_curves(arguments.weights, some, Path(directory) / "curves", arguments.curves)
            print(f"{lines[0]}: 12 losses, cached and end to end, differ by at most {difference:.2g}")
            return
        print("\n".join(lines), flush=True)
        for row in measure(arguments.weights, some, many, directory):
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
            if arguments.out:
                arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
