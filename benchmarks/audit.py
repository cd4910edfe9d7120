"""Does `audit` find what was planted? Flipped labels, altered copies, leaks, foreign images; and how long it takes.

    python benchmarks/audit.py --data IMAGES --cache CACHE [--output FILE.json] [--seeds 3] [--tasks labels …] \
        --mobilenet WEIGHTS.h5 [--inception WEIGHTS.h5] [--vgg16 WEIGHTS.h5]

IMAGES holds class folders in `train` and `validation`. Labels are tried with every backbone whose weights are given,
the rest with MobileNet.
"""

import argparse
import io
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from kerasxfer_serving.commands.output import print_table
from PIL import Image, ImageEnhance
from sklearn.metrics import average_precision_score

import kerasxfer
from kerasxfer.auditing import duplicates, outliers
from kerasxfer.auditing.audit import examine
from kerasxfer.auditing.findings import AuditedImages
from kerasxfer.auditing.inspection import ImageFacts, inspect
from kerasxfer.demo.images import SOURCE_CLASSES, draw_image
from kerasxfer.probing.features import pooled_features, standardised
from kerasxfer.probing.probe import out_of_folds

BACKBONES = {
    "mobilenet": ("MobileNet", (224, 224), {"backbone_kwargs": {"alpha": 0.75}}),
    "inception": ("InceptionV3", (150, 150), {"backbone_output": "mixed7"}),
    "vgg16": ("VGG16", (150, 150), {}),
}
TASKS = ("labels", "planted", "time", "large")
ALTERED, FOREIGN = 120, 0.01


def encoded(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def cropped(share):
    def crop(image):
        x, y = round(image.width * share / 2), round(image.height * share / 2)
        return image.crop((x, y, image.width - x, image.height - y))

    return crop


def resized(factor):
    return lambda image: image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


ALTERATIONS = {
    "crop 5 %": cropped(0.05),
    "crop 10 %": cropped(0.10),
    "crop 20 %": cropped(0.20),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "half the size": resized(0.5),
    "twice the size": resized(2.0),
    "JPEG 50": lambda image: encoded(image, 50),
    "JPEG 20": lambda image: encoded(image, 20),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "turned by 5°": lambda image: image.rotate(5, Image.Resampling.BICUBIC, expand=False),
    "turned by 90°": lambda image: image.transpose(Image.Transpose.ROTATE_90),
}


def directions_of(features, reference=None):
    """Standardised features of length 1; the first rows say how they are standardised."""
    if reference is not None:
        mean, deviation = reference.mean(0), np.maximum(reference.std(0), 1e-6)
        rows = (features - mean) / deviation
    else:
        rows = standardised(features)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("float32")


def labels(features, given, seeds):
    rows = []
    for share in (0.01, 0.03, 0.08):
        figures = []
        for seed in range(seeds):
            flipped = np.zeros(len(given), bool)
            flipped[np.random.default_rng(seed).permutation(len(given))[: round(share * len(given))]] = True
            noisy = np.where(flipped, 1 - given, given)
            answers = out_of_folds(features, noisy, 2, seed=10 * seed)
            chances = answers.probabilities[np.arange(len(given)), noisy]
            worst = np.argsort(chances, kind="stable")[: round(0.05 * len(given))]
            figures.append((average_precision_score(flipped, -chances), flipped[worst].sum() / flipped.sum()))
        (precision, recall), least = np.mean(figures, axis=0), np.min(figures, axis=0)
        rows.append({"flips": share, "average precision": precision, "least": least[0], "recall in worst 5 %": recall})
    return rows


def in_file(image, name, folder):
    (folder / "x").mkdir(exist_ok=True)
    image.save(folder / "x" / f"{name}.png")


def looked_at(model, image_size, folder):
    """Pooled features and facts of the files in a folder, by the names of their kinds."""
    data = kerasxfer.ImageFolder(folder, image_size, shuffle=False)
    features = pooled_features(model, data, kerasxfer.BottleneckCache(folder.parent / "cache", verbose=0))
    return (
        [path.partition("/")[2].rpartition("-")[0] for path in data.paths],
        features,
        list(inspect(folder, data.paths)),
    )


def copies(root, images, features, facts, model, image_size):
    chosen = np.random.default_rng(0).permutation(len(images.paths))[:ALTERED]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder, "altered")
        folder.mkdir()
        originals = [Image.open(root / images.paths[row]).convert("RGB") for row in chosen]
        for name, alter in ALTERATIONS.items():
            for number, image in enumerate(originals):
                in_file(alter(image), f"{name}-{number:04d}", folder)
        kinds, altered, their_facts = looked_at(model, image_size, folder)
    found = {}
    for name in ALTERATIONS:
        rows = [row for row, kind in enumerate(kinds) if kind == name]
        both = directions_of(np.concatenate([features, altered[rows]]), features)
        pairs = duplicates.find_pairs(both, [*facts, *(their_facts[row] for row in rows)])
        said = set(zip(pairs.first[pairs.copies].tolist(), pairs.second[pairs.copies].tolist(), strict=True))
        found[name] = float(np.mean([(int(row), len(facts) + k) in said for k, row in enumerate(chosen)]))
    return found


def leaks(features, given, facts, others, other_given, other_facts, seeds, wrong=0.2):
    """The accuracy without leaked images against that of a head which has seen none, on the same images.

    A fifth of the labels is wrong, so that there is something to gain by knowing them.
    """

    def accuracy(train, copied, tested):
        everything = AuditedImages(
            roots={"train": Path("train"), "validation": Path("validation")},
            paths=[f"{row}.jpg" for row in range(len(given) + len(copied) + len(tested))],
            subsets=np.repeat(["train", "validation"], [len(given) + len(copied), len(tested)]),
            labels=np.concatenate([train, validation[copied], validation[tested]]),
            class_names=["a", "b"],
            facts=[*facts, *(other_facts[row] for row in copied), *(other_facts[row] for row in tested)],
            features=np.concatenate([features, others[copied], others[tested]]),
        )
        return examine(everything).clean[0]

    rows = []
    for share in (0.1, 0.2, 0.5):
        measured = []
        for seed in range(seeds):
            random = np.random.default_rng(seed)
            train, validation = (
                (each ^ (random.random(len(each)) < wrong)).astype(np.intp) for each in (given, other_given)
            )
            order = random.permutation(len(other_given))
            copied, rest = np.split(order, [round(share * len(order))])
            clean = accuracy(train, copied, order)
            truth = accuracy(train, copied[:0], rest).accuracy
            measured.append((clean.leaked / len(order), clean.accuracy, clean.without_leaked, truth))
        found, with_leaked, without, truth = np.mean(measured, axis=0)
        rows.append(
            {"copied": share, "found": found, "accuracy": with_leaked, "without leaked": without, "truth": truth}
        )
    return rows


def foreign(features, model, image_size, seeds):
    count = round(FOREIGN * len(features))
    recalls = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder, "foreign")
        folder.mkdir()
        for k in range(count * seeds):
            pixels = draw_image(SOURCE_CLASSES[k % len(SOURCE_CLASSES)], 128, np.random.default_rng(k))
            in_file(Image.fromarray(pixels), f"drawn-{k:04d}", folder)
        _, strangers, _ = looked_at(model, image_size, folder)
    for seed in range(seeds):
        mixed = np.concatenate([features, strangers[seed * count : (seed + 1) * count]])
        alike = outliers.likeness(directions_of(mixed))
        last = np.argsort(alike, kind="stable")[: round(outliers.SHARE * len(mixed))]
        recalls.append(float((last >= len(features)).sum() / count))
    return {"in the top 2 %": float(np.mean(recalls)), "least": min(recalls)}


def large(count=100_000, channels=768):
    random = np.random.default_rng(0)
    given = random.integers(0, 10, count)
    features = random.standard_normal((count, channels), "float32")
    features[np.arange(count), given] += 4
    fact = [ImageFacts(str(k), str(k), 100, 100, 1, 50.0, 50.0, 500.0, s, m) for k, (s, m) in
            enumerate(random.integers(0, 2**63, (count, 2)).tolist())]  # fmt: skip
    images = AuditedImages({"train": Path("train")}, [f"{k}.jpg" for k in range(count)], np.full(count, "train"), given,
                           [f"c{k}" for k in range(10)], fact, features)  # fmt: skip
    start, processor = time.perf_counter(), time.process_time()
    examine(images)
    return {
        "rows": count,
        "seconds": time.perf_counter() - start,
        "processor seconds": time.process_time() - processor,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def whole(data, options):
    """The seconds of a whole audit, its page among them, where the features are there."""
    backbone, image_size, more = BACKBONES["mobilenet"]
    with tempfile.TemporaryDirectory() as output:
        start, processor = time.perf_counter(), time.process_time()
        found = kerasxfer.audit(
            data / "train", data / "validation", output=output, cache=options.cache, backbone=backbone,
            image_size=image_size, weights=options.mobilenet, **more,
        )  # fmt: skip
        return {
            "images": sum(found.images.values()),
            "seconds": time.perf_counter() - start,
            "processor seconds": time.process_time() - processor,
            "listed": {name: len(findings) for name, findings in found.lists.items()},
            "first": {name: [each.path for each in findings[:20]] for name, findings in found.lists.items()},
        }


def planted(train, validation, model, cache, options):
    """Copies, leaks and foreign images."""
    features, others = (pooled_features(model, data, cache) for data in (train, validation))
    facts, other_facts = (list(inspect(data.root, data.paths)) for data in (train, validation))
    both = np.concatenate([features, others])
    paths = [*train.paths, *validation.paths]
    pairs = duplicates.find_pairs(directions_of(both), [*facts, *other_facts])
    found = copies(train.root, train, features, facts, model, train.image_size)
    return {
        "pairs compared": len(both) * (len(both) - 1) // 2,
        "called copies": [
            (paths[a], paths[b]) for a, b in zip(pairs.first[pairs.copies], pairs.second[pairs.copies], strict=True)
        ],
        "copies found": found,
        "copies found, mean": float(np.mean(list(found.values()))),
        "leaks": leaks(features, train.labels, facts, others, validation.labels, other_facts, options.seeds),
        "foreign": foreign(features, model, train.image_size, options.seeds),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, help="what to do (default: all)")
    for name in BACKBONES:
        parser.add_argument(f"--{name}", help="weights file", required=name == "mobilenet")
    options = parser.parse_args()
    cache = kerasxfer.BottleneckCache(options.cache, verbose=0)
    result = {}
    for name, (backbone, image_size, more) in BACKBONES.items():
        weights = getattr(options, name)
        tasks = {"labels", "planted"} if name == "mobilenet" else {"labels"}
        if not weights or not tasks.intersection(options.tasks):
            continue
        model = kerasxfer.image_classifier(backbone, ("a", "b"), image_size, weights=weights, **more)
        train, validation = (
            kerasxfer.ImageFolder(options.data / part, image_size, shuffle=False) for part in ("train", "validation")
        )
        if "labels" in options.tasks:
            result[f"labels, {name}"] = labels(pooled_features(model, train, cache), train.labels, options.seeds)
            print_table(result[f"labels, {name}"])
        if "planted" in options.tasks and name == "mobilenet":
            result["planted"] = planted(train, validation, model, cache, options)
    if "time" in options.tasks:
        result["audit after the features"] = whole(options.data, options)
    if "large" in options.tasks:
        result["large"] = large()
    print(json.dumps(result, indent=1))
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
