"""The tables and the figure of `recipes.py`, from its JSON file."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kerasxfer_serving.files import write_atomically
from matplotlib.figure import Figure

from kerasxfer.smoothing import smooth_curve

BEGIN, END = "<!-- tables of recipes.py -->", "<!-- end of the tables -->"
CURVE_NAMES = ("loss", "accuracy", "val_loss", "val_accuracy")
Runs = dict[str, list[dict]]  # of each part, by seed


class Row(NamedTuple):
    """A line of the table: what a tutorial reports, and the parts that stand beside it."""

    recipe: str
    tutorial: str
    published: str = ""
    ours: str = ""


ROWS = (
    Row("three blocks from scratch", "0.72", "scratch-published"),
    Row(
        "three blocks from scratch, augmented, dropout", "0.82", "scratch-augmented-published", "scratch-augmented-ours"
    ),
    Row("bottleneck features of VGG16", "0.90", "bottleneck-published", "bottleneck-ours"),
    Row("bottleneck features, VGG16's own preprocessing", "", "bottleneck-published-preprocessed"),
    Row(
        "bottleneck features, on a fifth of the training images",
        "",
        "bottleneck-published-held-out",
        "bottleneck-ours-held-out",
    ),
    Row("bottleneck features, 5 augmented copies, pixels / 255", "0.96", "copies-5-published"),
    Row("bottleneck features, 5 augmented copies", "0.96", "copies-5-published-preprocessed", "copies-5-ours"),
    Row("bottleneck features, 3 augmented copies", "0.96", "", "copies-3-ours"),
    Row("bottleneck features, 10 augmented copies", "0.96", "", "copies-10-ours"),
    Row("block5 fine-tuned, RMSprop", "0.97", "fine-tuned-published", "fine-tuned-ours"),
    Row("block5 fine-tuned on 3 augmented copies", "0.97", "", "fine-tuned-copies-3-ours"),
    Row("block5 fine-tuned, on a fifth of the training images", "", "", "fine-tuned-ours-held-out"),
    Row("block5 fine-tuned, SGD", "0.94", "fine-tuned-published-sgd"),
    Row("InceptionV3 to mixed7, then its upper block", "", "inception-published", "inception-ours"),
)
NEWCOMERS = {
    "train-vgg16": "VGG16",
    "train-inception": "InceptionV3 to mixed7",
    "train-mobilenet": "MobileNet 0.75",
}
CURVES = {
    "From scratch": {
        "scratch-published": "plain, as published",
        "scratch-augmented-published": "augmented, as published",
        "scratch-augmented-ours": "augmented, ours",
    },
    "On VGG16": {
        "bottleneck-published": "bottleneck, as published (pixels / 255)",
        "bottleneck-published-preprocessed": "the same, VGG16's own preprocessing",
        "bottleneck-ours": "bottleneck, ours",
        "copies-5-ours": "5 augmented copies, ours",
        "fine-tuned-copies-3-ours": "head, then block5, 3 copies, ours",
    },
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")  # Okabe and Ito


class Results:
    """What has been run so far, in one JSON file.

    Args:
        path: The file; need not exist.

    Attributes:
        parts: The runs of each part, by seed.
        exported: Accuracy and images a second of the exported model, by precision.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read()

    def _read(self) -> None:
        stored = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        self.parts: Runs = stored.get("parts", {})
        self.exported: dict[str, dict[str, float]] = stored.get("exported", {})

    def have(self, part: str, seed: int) -> bool:
        """Whether a part has been run with a seed."""
        return any(run["seed"] == seed for run in self.parts.get(part, []))

    def add(self, result: dict) -> None:
        """Keep the result of one part and seed."""
        history = {name: [round(each, 6) for each in result["history"][name]] for name in CURVE_NAMES}
        self._read()  # what another process has added
        runs = self.parts.setdefault(result["part"], [])
        runs.append(result | {"history": history})
        runs.sort(key=lambda run: run["seed"])
        self._write()

    def add_exported(self, exported: dict[str, dict[str, float]]) -> None:
        """Keep what the exported model reaches."""
        self._read()
        self.exported = exported
        self._write()

    def _write(self) -> None:
        stored = {"parts": dict(sorted(self.parts.items())), "exported": self.exported}
        write_atomically(self.path, json.dumps(stored) + "\n")

    def write_report(self, figure: Path, documents: Sequence[Path]) -> None:
        """Draw the curves, and write the tables between the marks of Markdown documents."""
        draw(self.parts, figure)
        tables = (accuracy_table(self.parts), newcomers_table(self.parts), export_table(self.exported))
        text = "\n\n".join("\n".join(table) for table in tables if table)
        for document in documents:
            before, rest = document.read_text(encoding="utf-8").split(BEGIN)
            write_atomically(document, f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def accuracy_table(results: Runs) -> list[str]:
    """Tutorial, published and ours side by side."""
    lines = ["| recipe | tutorial | as published, with our parts | ours | seconds, as published | seconds, ours |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for row in ROWS:
        sides = [results.get(name, []) for name in (row.published, row.ours)]
        if not any(sides):
            continue
        cells = [*map(accuracy, sides), *map(seconds, sides)]
        lines.append(f"| {row.recipe} | {row.tutorial} | {' | '.join(cells)} |")
    return lines


def newcomers_table(results: Runs) -> list[str]:
    """What `kerasxfer train` reaches of itself."""
    lines = ["| `kerasxfer train DATA`, nothing else | accuracy of the kept epoch | seconds |", "| --- | --- | --- |"]
    for name, label in NEWCOMERS.items():
        if runs := results.get(name, []):
            lines.append(f"| {label} | {accuracy(runs)} | {seconds(runs)} |")
    return lines if lines[2:] else []


def accuracy(runs: list[dict]) -> str:
    """Mean ± standard deviation over the seeds, and the epochs."""
    if not runs:
        return ""
    values = [run["accuracy"] for run in runs]
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread} ({len(values)} × {len(runs[0]['history']['loss'])} epochs)"


def seconds(runs: list[dict]) -> str:
    return f"{statistics.median(run['seconds'] for run in runs):.0f}" if runs else ""


def export_table(exported: dict[str, dict[str, float]]) -> list[str]:
    """The fine-tuned model as ONNX files."""
    if not exported:
        return []
    lines = ["| exported | accuracy | images/s |", "| --- | --- | --- |"]
    return lines + [f"| {name} | {each['accuracy']:.3f} | {each['rate']:.1f} |" for name, each in exported.items()]


def draw(results: Runs, path: Path) -> None:
    """Validation accuracy of the first seed, raw as points and smoothed as lines."""
    panels = {title: {n: label for n, label in names.items() if n in results} for title, names in CURVES.items()}
    panels = {title: names for title, names in panels.items() if names}
    if not panels:  # `kerasxfer train` alone was run
        return
    figure = Figure(figsize=(1 + 5 * len(panels), 4.2), dpi=120, layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for colour, (name, label) in zip(COLOURS, names.items(), strict=False):
            values = results[name][0]["history"]["val_accuracy"]
            epochs = range(1, len(values) + 1)
            axes.plot(epochs, values, "o", color=colour, alpha=0.3, markersize=3)
            axes.plot(epochs, smooth_curve(values, debias=True), color=colour, label=label)
        axes.set(title=title, xlabel="epoch", ylabel="validation accuracy")
        axes.grid(axis="y", color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(path)
