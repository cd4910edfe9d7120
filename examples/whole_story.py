"""All recipes on one data set: one table and one figure of accuracy, seconds and parameters trained.

With `--seeds 3` each recipe is repeated; the table then gives the mean and the spread.
"""

import argparse
import copy
import statistics
import sys

import keras
import matplotlib.pyplot as plt
from _common import Result, arguments
from bottleneck_features import run as bottleneck
from feature_extraction_with_augmentation import run as augmented
from fine_tune_last_block import run as fine_tuned
from small_convnet_from_scratch import run as scratch

seeds = int(sys.argv.pop(sys.argv.index("--seeds") + 1)) if "--seeds" in sys.argv else 1
sys.argv = [word for word in sys.argv if word != "--seeds"]
args = arguments(__doc__ or "", epochs=5)


def with_seed(seed: int) -> argparse.Namespace:
    """Return the arguments for one repetition."""
    repeated = copy.copy(args)
    repeated.seed, repeated.out = seed, args.out / f"seed-{seed}"
    repeated.out.mkdir(exist_ok=True)
    keras.utils.set_random_seed(seed)
    return repeated


runs: list[list[Result]] = []
for seed in range(args.seed, args.seed + seeds):
    options = with_seed(seed)
    longer = copy.copy(options)
    longer.epochs = 3 * args.epochs
    runs.append(
        [
            scratch(longer, augmented=False),
            scratch(longer, augmented=True),
            bottleneck(options, cached=False, name="bottleneck, without the cache"),
            bottleneck(options),
            augmented(options),
            augmented(options, copies=3),
            fine_tuned(options),
        ]
    )

print("| recipe | accuracy | ± | seconds | parameters trained |\n| --- | --- | --- | --- | --- |")
table = list(zip(*runs, strict=True))
for results in table:
    values = [result.accuracy for result in results]
    low, high = results[0].interval
    spread = statistics.stdev(values) if len(values) > 1 else (high - low) / 2
    seconds = statistics.mean(result.seconds for result in results)
    mean, first = statistics.mean(values), results[0]
    print(f"| {first.recipe} | {mean:.3f} | {spread:.3f} | {seconds:.0f} | {first.trained:,} |")
print(
    f"\n± is the standard deviation over {seeds} seeds." if seeds > 1 else "\n± is half the 95 % interval of one run."
)

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for results in table:
    axes.scatter([r.seconds for r in results], [r.accuracy for r in results], label=results[0].recipe)
axes.set(
    xscale="log", xlabel="seconds of training", ylabel="validation accuracy", title=f"{args.backbone}, {seeds} seeds"
)
axes.legend(fontsize="small")
figure.savefig(args.out / "whole-story.png", dpi=150)
print(f"Figure: {args.out / 'whole-story.png'}")
