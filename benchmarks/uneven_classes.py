"""What class weights and balanced sampling do for the rare class, where one class has a tenth of the other's images.

For each seed draws a tenth of one class's training images, trains the head of MobileNet from cached features three
times (as it is, with class weights, with balanced sampling) and measures both recalls on all validation images, of
which each class has as many.

    python benchmarks/uneven_classes.py IMAGES --weights FILE --out benchmarks/results/uneven_classes.md

`IMAGES` holds `train` and `validation` with two class folders each.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

import kerasxfer

WAYS: dict[str, dict[str, str]] = {
    "as it is": {},
    "--class-weight balanced": {"class_weight": "balanced"},
    "--sampling balanced": {"sampling": "balanced"},
}


def uneven(folder: Path, rare: str, share: float, seed: int) -> dict[str, list[str]]:
    """A table of the images, with a share of the rare class's only."""
    table: dict[str, list[str]] = {"image": [], "label": []}
    for name in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        images = sorted(path.relative_to(folder).as_posix() for path in (folder / name).iterdir())
        if name == rare:
            images = sorted(np.random.default_rng(seed).permutation(images)[: round(share * len(images))].tolist())
        table["image"] += images
        table["label"] += [name] * len(images)
    return table


def recalls(images: Path, options: argparse.Namespace, cache: kerasxfer.BottleneckCache, way: str, seed: int) -> Any:
    """Train a head; recall by class."""
    keras.utils.set_random_seed(seed)
    size = (options.size, options.size)
    kwargs: dict[str, Any] = {"label_mode": "categorical", "seed": seed}
    table = uneven(images / "train", options.rare, options.share, seed)
    sampling = WAYS[way].get("sampling")
    train = kerasxfer.ImageTable(table, size, root=images / "train", sampling=sampling, **kwargs)
    validation = kerasxfer.ImageFolder(images / "validation", size, shuffle=False, **kwargs)
    model = kerasxfer.image_classifier(
        "MobileNet", train.class_names, size, weights=options.weights, backbone_kwargs={"alpha": 0.75}, dropout=0.2
    )
    metrics = [keras.metrics.Recall(class_id=number, name=name) for number, name in enumerate(train.class_names)]
    model.compile("adam", "categorical_crossentropy", metrics=metrics)
    weights = train.class_weight() if "class_weight" in WAYS[way] else None
    cache.fit(model, train, epochs=options.epochs, shuffle=False, verbose=0, class_weight=weights)
    return cache.evaluate(model, validation, verbose=0, return_dict=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("images", type=Path)
    arguments.add_argument("--weights", default="imagenet")
    arguments.add_argument("--size", type=int, default=128, help="side of an image in pixels")
    arguments.add_argument("--rare", default="dogs", help="the class that is made rare")
    arguments.add_argument("--share", type=float, default=0.1, help="of its training images that stay")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--epochs", type=int, default=30)
    arguments.add_argument("--cache", type=Path, help="folder of the features; a temporary one by default")
    arguments.add_argument("--out", type=Path)
    options = arguments.parse_args()

    lines = [
        "| head trained | recall of the rare class | recall of the other | balanced accuracy |",
        "| --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        cache = kerasxfer.BottleneckCache(options.cache or temporary, verbose=0)
        for way in WAYS:
            results = [recalls(options.images, options, cache, way, seed) for seed in range(options.seeds)]
            rare = [result[options.rare] for result in results]
            other = [result[next(name for name in result if name not in (options.rare, "loss"))] for result in results]
            both = [(one + two) / 2 for one, two in zip(rare, other, strict=True)]
            lines.append(f"| {way} | {' | '.join(map(shown, (rare, other, both)))} |")
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text(page(options, lines), encoding="utf-8")


def shown(values: list[float]) -> str:
    """Mean, standard deviation and each value."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f} ({', '.join(f'{v:.3f}' for v in values)})"


def page(options: argparse.Namespace, lines: list[str]) -> str:
    """The result as a page of Markdown."""
    table = "\n".join(lines)
    return f"""# Uneven classes

Photographs of cats and dogs, {options.share:.0%} of the training images of `{options.rare}`, drawn anew for each of
{options.seeds} seeds, and all of the others; 800 validation images, each class as many. MobileNet 0.75 at
{options.size} pixels with ImageNet weights, head `average` with dropout 0.2, Adam at 1e-3, {options.epochs} epochs, the
last one's weights. Keras {keras.version()}, {keras.backend.backend()}. Mean ± standard deviation (each seed).

{table}

Made by `python benchmarks/uneven_classes.py IMAGES --weights FILE`.
"""


if __name__ == "__main__":
    main()
