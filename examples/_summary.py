"""The table and the figure of `whole_story.py`, from its `results.jsonl`."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from _common import with_interval

from kerasxfer.estimate import Estimate

Run = dict[str, Any]


def by_recipe(runs: Sequence[Run]) -> Iterator[tuple[str, list[Run]]]:
    """The repetitions of each recipe."""
    for recipe in dict.fromkeys(run["recipe"] for run in runs):
        yield recipe, [run for run in runs if run["recipe"] == recipe]


def mean(runs: Sequence[Run], key: str) -> float:
    return statistics.mean(run[key] for run in runs)


def table(runs: Sequence[Run]) -> str:
    """In Markdown; with several seeds mean ± standard deviation, with one its 95 % interval."""
    lines = ["| recipe | accuracy | seconds | images/s | parameters trained |", "| --- | --- | --- | --- | --- |"]
    for recipe, same in by_recipe(runs):
        accuracy = with_interval(same[0]["accuracy"], same[0]["images"])
        if len(same) > 1:
            accuracy = f"{mean(same, 'accuracy'):.3f} ± {statistics.stdev(run['accuracy'] for run in same):.3f}"
        seconds, rate = mean(same, "seconds"), mean(same, "rate")
        lines.append(f"| {recipe} | {accuracy} | {seconds:.1f} | {rate:,.0f} | {same[0]['trained']:,} |")
    return "\n".join(lines)


def figure(runs: Sequence[Run], path: Path, title: str) -> None:
    """One row a recipe, one panel a column of the table; the bars are the accuracies' 95 % intervals."""
    rows = list(by_recipe(runs))
    image, axes = plt.subplots(1, 4, sharey=True, figsize=(13, 1.4 + 0.34 * len(rows)), layout="constrained")
    for row, (_, same) in enumerate(rows):
        accuracy, images = mean(same, "accuracy"), same[0]["images"] * len(same)
        interval = Estimate.of_share(round(accuracy * images), images)
        axes[0].plot([interval.low, interval.high], [row, row], color="#0072B2", linewidth=2)
        for run in same:
            axes[0].plot(run["accuracy"], row, "o", color="#0072B2", alpha=0.5)
        for panel, key in zip(axes[1:], ("seconds", "rate", "trained"), strict=True):
            if value := mean(same, key):
                panel.plot(value, row, "o", color="#0072B2")
                text = f"{value:,.1f}" if key == "seconds" else f"{value:,.0f}"
                panel.annotate(text, (value, row), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    for panel, label in zip(axes, ("validation accuracy", "seconds", "images/s", "parameters trained"), strict=True):
        panel.set_title(label, fontsize=10)
        panel.grid(axis="y", color="#dddddd")
        panel.tick_params(axis="y", length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.margins(x=0.2)
        if panel is not axes[0]:
            panel.set_xscale("log")
            panel.set_xticks([])  # each point says its own number
            panel.minorticks_off()
    axes[0].set_yticks(range(len(rows)), [recipe for recipe, _ in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.7)
    image.suptitle(title, fontweight="bold")
    image.savefig(path, dpi=150)
    plt.close(image)
