"""Does `choose` say the truth? Order of the backbones, coverage of the intervals, the learning curve, and its time.

    python benchmarks/choose.py --data IMAGES --more MORE --cache CACHE [--output FILE.json] \
        --mobilenet WEIGHTS.h5 --mobilenetv2 WEIGHTS.h5 --inception WEIGHTS.h5 --vgg16 WEIGHTS.h5

Backbones without a weights file are left out. Intervals and curves are judged on resamples of all images, IMAGES and
MORE together: out of fold on 500 of them, against heads fitted on these 500 that answer to all the others, and the
curve of 1,000 against the out-of-fold error of 2,000.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from kerasxfer_serving.commands.output import print_table

from kerasxfer import BottleneckCache, ImageFolder
from kerasxfer.choosing.advice import advice
from kerasxfer.choosing.answers import Answers
from kerasxfer.choosing.candidates import Candidate
from kerasxfer.choosing.choice import choose
from kerasxfer.choosing.learning_curve import learning_curve
from kerasxfer.probing.features import pooled_features
from kerasxfer.probing.probe import held_out, out_of_fold

CANDIDATES = {
    "mobilenet": [
        {"backbone": "MobileNet", "image_size": (side, side), "backbone_args": {"alpha": 0.75}} for side in (224, 150)
    ],
    "inception": [{"backbone": "InceptionV3", "backbone_output": "mixed7"}],
    "vgg16": [{"backbone": "VGG16"}],
    "mobilenetv2": [{"backbone": "MobileNetV2", "backbone_args": {"alpha": 0.35}}],
}
SAMPLE, CURVE = 500, 1000


def features_of_all(candidate, folders, cache):
    """Features and labels of the images of several folders together."""
    features, labels = [], []
    for folder in folders:
        images = ImageFolder(folder, candidate.image_size, shuffle=False)
        features.append(pooled_features(candidate.classifier(images.class_names), images, cache))
        labels.append(images.labels)
    return np.concatenate(features), np.concatenate(labels)


def draw(labels, count, rng):
    """Rows of so many images, the same share of every class."""
    classes = np.unique(labels)
    return np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[: count // len(classes)] for label in classes]
    )


def coverage(features, labels, resamples):
    """How often the interval held the accuracy on all other images, and how wide it was."""
    held, widths = [], []
    classes = int(labels.max()) + 1
    for seed in range(resamples):
        rng = np.random.default_rng(seed)
        rows = draw(labels, SAMPLE, rng)
        others = np.setdiff1d(np.arange(len(labels)), rows)
        found = out_of_fold(features[rows], labels[rows], classes, seed=seed)
        score = Answers(labels[rows], found.probabilities).score
        said = held_out(features[rows], labels[rows], features[others], classes, found.strength)
        truth = float((said.argmax(axis=1) == labels[others]).mean())
        held.append(score.low <= truth <= score.high)
        widths.append(score.high - score.low)
    return {"resamples": resamples, "coverage": float(np.mean(held)), "mean_width": float(np.mean(widths))}


def curves(features, labels, draws):
    """The error that the curve of a sample foretells for twice as many images, over the one they have."""
    ratios = []
    classes = int(labels.max()) + 1

    def error(rows):
        found = out_of_fold(features[rows], labels[rows], classes)
        return 1 - Answers(labels[rows], found.probabilities).value

    for seed in range(draws):
        rows = draw(labels, 2 * CURVE, np.random.default_rng(seed))
        half = draw(labels[rows], CURVE, np.random.default_rng(seed))
        part = rows[half]
        curve = learning_curve(lambda some, part=part: error(part[some]), error(part), labels[part], seed=seed)
        ratios.append(curve.at_twice / error(rows))
    return {"draws": draws, "ratios": ratios, "within_20_percent": float(np.mean(np.abs(np.log(ratios)) < np.log(1.2)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--more", required=True)
    parser.add_argument("--cache", required=True)
    for name in CANDIDATES:
        parser.add_argument(f"--{name}", metavar="WEIGHTS")
    parser.add_argument("--judge", nargs="*", default=["MobileNet@224", "MobileNetV2@150"], metavar="CANDIDATE")
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--no-rates", dest="rates", action="store_false")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    candidates = [
        Candidate(weights=weights, **arguments)
        for name, all_arguments in CANDIDATES.items()
        if (weights := getattr(options, name))
        for arguments in all_arguments
    ]
    choice = choose(options.data, candidates, cache=options.cache, rates=options.rates, say=print)
    print_table(choice.shown())
    print("\n".join(advice(choice)))
    print("seconds once features are there:", {row["candidate"]: round(row["seconds"], 2) for row in choice.rows()})
    result = {"choice": choice.to_dict(), "judged": {}}
    for candidate in candidates:
        if candidate.name in options.judge:
            cache = BottleneckCache(options.cache, verbose=0)
            features, labels = features_of_all(candidate, (options.data, options.more), cache)
            start = time.process_time()
            judged = coverage(features, labels, options.resamples) | {"curve": curves(features, labels, options.draws)}
            result["judged"][candidate.name] = judged
            print(candidate.name, judged, f"{time.process_time() - start:.0f} s of CPU")
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
