"""All recipes on one data set: one table and one figure of accuracy, seconds, images/s and parameters trained.

With `--seeds 3` each recipe is repeated, and the table gives mean ± standard deviation. Every result goes to
`results.jsonl` in the output folder as it comes; the same command continues where a killed one stopped.
"""

import argparse
import copy
import dataclasses
import json
import time

import keras
from _common import Result, arguments, folders
from _summary import figure, table
from bottleneck_features import run as bottleneck
from feature_extraction_with_augmentation import run as augmented
from fine_tune_last_block import run as fine_tuned
from kerasxfer_serving import Predictor
from small_convnet_from_scratch import OPTIONS as SCRATCH
from small_convnet_from_scratch import run as train_convnet

import kerasxfer


def scratch(args: argparse.Namespace, *, augmented: bool) -> Result:
    """Train the small net with its own optimizer; that of the command line is for heads."""
    options = copy.copy(args)
    options.optimizer, options.learning_rate = SCRATCH["optimizer"], SCRATCH["rate"]
    return train_convnet(options, augmented=augmented)


def served(args: argparse.Namespace) -> Result:
    """Export the fine-tuned model to ONNX and predict the validation folder, from files to answers."""
    _, images = folders(args)
    kerasxfer.export_onnx(args.out / "fine-tuned.keras", args.out / "model.onnx", class_names=images.class_names)
    with Predictor(args.out / "model.onnx") as predictor:
        start = time.perf_counter()
        answers = predictor.predict([images.root / path for path in images.paths]).labels
        seconds = time.perf_counter() - start
    right = sum(answer == images.class_names[label] for answer, label in zip(answers, images.labels, strict=True))
    count = len(images.paths)
    return Result("served by ONNX Runtime", right / count, count, seconds, count / seconds, 0, {})


RECIPES = {
    "scratch": lambda args: scratch(args, augmented=False),
    "scratch-augmented": lambda args: scratch(args, augmented=True),
    "bottleneck-uncached": lambda args: bottleneck(args, cached=False, name="bottleneck, without the cache"),
    "bottleneck": bottleneck,
    "bottleneck-again": lambda args: bottleneck(args, name="bottleneck, again"),
    "augmented": augmented,
    "augmented-copies": lambda args: augmented(args, copies=3),
    "fine-tuned": fine_tuned,
    "served": served,
}
recipes = {"nargs": "+", "choices": RECIPES, "default": list(RECIPES), "help": "which, in which order"}
args = arguments(__doc__ or "", epochs=10, more={"--seeds": {"type": int, "default": 1}, "--recipes": recipes})
log = args.out / "results.jsonl"
runs = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
for seed in range(args.seed, args.seed + args.seeds):
    options = copy.copy(args)
    options.seed, options.out = seed, args.out / f"seed-{seed}"
    options.cache = options.out / "cache"
    options.out.mkdir(exist_ok=True)
    for name in args.recipes:
        if not any((run["seed"], run["name"]) == (seed, name) for run in runs):
            keras.utils.set_random_seed(seed)
            runs.append({"seed": seed, "name": name, **dataclasses.asdict(RECIPES[name](options))})
            with log.open("a", encoding="utf-8") as file:
                print(json.dumps(runs[-1]), file=file)

print(table(runs))
figure(runs, args.out / "whole-story.png", title=f"{args.backbone}, {args.seeds} seed(s)")
print(f"Figure: {args.out / 'whole-story.png'}")
