"""Draws the charts of the site from what lies in benchmarks/results."""

import json
import re
from itertools import accumulate
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
FIGURES, RESULTS = ROOT / "docs/assets/figures", ROOT / "benchmarks/results"
OURS, OTHER, QUIET = "#2f56c9", "#d9730d", "#4a5468"


def cached_against_uncached() -> None:
    """Seconds that VGG16's schedule takes, epoch by epoch, with the cache and without it."""
    text = (RESULTS / "bottleneck_cache_tensorflow.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (.+?)(?:, jit_compile=\w+)? \| ([\d.]+) images/s", text, re.MULTILINE)
    rates = {name: float(rate) for name, rate in found}
    plain = [1000 / rates["head: end to end"]] * 10 + [1000 / rates["block5: end to end"]] * 10
    cached = [1000 / rates["head: cached"]] * 10 + [1000 / rates["block5: cached"]] * 10
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(21), [0, *accumulate(plain)], color=OTHER, label="model.fit", linewidth=2)
    with_build = list(accumulate([1000 / rates["build"], *cached]))
    axes.plot(range(21), with_build, color=OURS, label="cache.fit, with the build", linewidth=2)
    axes.axvline(10, color=QUIET, linestyle=":", linewidth=1)
    axes.text(10.2, axes.get_ylim()[1] * 0.93, "block5 is unfrozen", color=QUIET)
    axes.set(xlabel="epoch", ylabel="seconds per 1,000 images", xlim=(0, 20), ylim=(0, None), xticks=range(0, 21, 2))
    axes.set_title("VGG16 at 150 × 150 on two cores, TensorFlow", loc="left")
    axes.legend(frameon=False, loc="center left")
    _save(figure, "cached.svg")


def throughput_against_ceiling() -> None:
    """What `predict` reaches of what decoding and the model alone allow."""
    names = {
        "predict_vgg16_150": "VGG16",
        "predict_inception_v3_150": "InceptionV3",
        "predict_mobilenetv2035_150": "MobileNetV2 0.35",
        "predict_mobilenetv2035_150_4000x3000": "MobileNetV2 0.35,\n12-megapixel images",
    }
    ways = [json.loads((RESULTS / f"{name}.json").read_text())["ways"] for name in names]
    shares = [way["ONNX Runtime fp32"]["share_of_ceiling"] for way in ways]
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(names.values()), shares, color=OURS, height=0.6)
    axes.bar_label(bars, [f"{share:.2f}" for share in shares], label_type="center", color="white")
    axes.axvline(1, color=OTHER, linewidth=2)
    axes.set(xlim=(0, 1.2), xlabel="share of the ceiling: what decoding and the model alone allow")
    axes.invert_yaxis()
    _save(figure, "ceiling.svg")


def _save(figure: Figure, name: str) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    FIGURES.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(FIGURES / name, metadata={"Date": None})


if __name__ == "__main__":
    cached_against_uncached()
    throughput_against_ceiling()
