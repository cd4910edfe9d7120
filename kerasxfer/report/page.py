"""From runs and their figures to one HTML file."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from kerasxfer_serving import __version__
from kerasxfer_serving.benchmarking.report import Report
from kerasxfer_serving.benchmarking.tables import figures, headlines
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import ImagePolicy
from plotly.offline import get_plotlyjs

from kerasxfer.data.opening import image_paths
from kerasxfer.data.preview import augmented_copies, sample_images
from kerasxfer.estimate import Estimate
from kerasxfer.multi_label.figures import LabelEvaluation
from kerasxfer.report import charts, facts, label_page, thumbnails
from kerasxfer.report.metrics import ClassFigures, Evaluation, chance_of_difference
from kerasxfer.report.predictions import LabelledPredictions
from kerasxfer.report.runs import Run
from kerasxfer.runs.datasets import make_augmentation, make_batch_augmentation
from kerasxfer.runs.run_folder import RunState

GALLERY = 18
TABLE_CLASSES = 20  # of a confusion matrix that still reads as a table
AUGMENTED_IMAGES, AUGMENTED_COPIES = 4, 6


@dataclass(frozen=True)
class RunResult:
    """A run with what its model answered; `predictions` and `evaluation` are there together, or not at all."""

    run: Run
    predictions: LabelledPredictions | None = None
    evaluation: Evaluation | LabelEvaluation | None = None


def render(results: Sequence[RunResult]) -> str:
    """Put the page together."""
    environment = Environment(
        loader=PackageLoader("kerasxfer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates = files("kerasxfer.report") / "templates"
    return environment.get_template("page.html.j2").render(
        version=__version__,
        css=(templates / "page.css").read_text("utf-8"),
        scripts=[_script(get_plotlyjs()), _script((templates / "page.js").read_text("utf-8"))],
        runs=[_run_context(result, f"run-{number}") for number, result in enumerate(results, start=1)],
        comparison=_comparison(results) if len(results) > 1 else None,
    )


def _script(code: str) -> dict[str, str]:
    """A script with its hash for the page's content security policy."""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return {"code": code, "hash": f"'sha256-{digest}'"}


def _run_context(result: RunResult, id: str) -> dict[str, Any]:
    run, predictions, evaluation = result.run, result.predictions, result.evaluation
    context: dict[str, Any] = {
        "id": id,
        "name": run.name,
        "cards": _cards(result),
        "notes": _notes(result),
        "sentence": facts.sentence(run),
        "charts": charts.curves([run]),
        "history": _history_rows(run),
        "stages": facts.stage_rows(run),
        "facts": facts.facts(run, predictions.parameters if predictions else None),
        "augmented": _augmented(run),
        "parity": list(facts.flattened(run.manifest["parity"])) if run.manifest else [],
        "benchmark": _benchmark(run.benchmark) if run.benchmark else None,
        "evaluation": evaluation,
        "multi_label": isinstance(evaluation, LabelEvaluation),
    }
    if predictions is not None and isinstance(evaluation, LabelEvaluation):
        context |= label_page.context(run, predictions, evaluation)
    elif predictions is not None and isinstance(evaluation, Evaluation):
        context |= _evaluation_context(run, predictions, evaluation)
    return context


def _evaluation_context(run: Run, predictions: LabelledPredictions, evaluation: Evaluation) -> dict[str, Any]:
    many = len(run.class_names) > TABLE_CLASSES
    return {
        "class_names": run.class_names,
        "confusion_chart": charts.confusion(evaluation, run.class_names) if many else None,
        "confused": _confused(run, evaluation) if len(run.class_names) > 2 else [],
        "classes": _class_rows(evaluation),
        "calibration_charts": [charts.calibration(evaluation), charts.confidence(evaluation)],
        "mistakes": _gallery(run, predictions, evaluation, evaluation.mistakes[:GALLERY]),
        "uncertain": _gallery(run, predictions, evaluation, evaluation.uncertain[:GALLERY]),
    }


def _class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row for each class, the weakest first: by recall where classes are uneven, else by F1."""

    def strength(each: ClassFigures) -> float:
        return each.recall.value if evaluation.uneven and each.recall else each.f1

    rows = []
    for each in sorted(evaluation.classes, key=strength):
        recall = {
            "Recall": f"{each.recall.value:.3f}" if each.recall else "–",
            "95 % interval": f"{each.recall.low:.3f}–{each.recall.high:.3f}" if each.recall else "–",
        }
        precision = {"Precision": f"{each.precision:.3f}"}
        both = recall | precision if evaluation.uneven else precision | recall
        rows.append({"Class": each.name, **both, "F1": f"{each.f1:.3f}", "Images": each.images})
    return rows


def _cards(result: RunResult) -> list[dict[str, str]]:
    run, predictions, evaluation = result.run, result.predictions, result.evaluation
    cards = []
    if predictions is not None and isinstance(evaluation, LabelEvaluation):
        cards = label_page.cards(predictions, evaluation)
    elif predictions is not None and isinstance(evaluation, Evaluation):
        accuracy = evaluation.accuracy
        count, wrong = len(predictions.labels), len(evaluation.mistakes)
        cards = [
            {
                "label": "Accuracy",
                "value": _percent(accuracy.value),
                "about": f"± {50 * (accuracy.high - accuracy.low):.1f}",
                "note": f"95 % CI {_interval(accuracy)}",
            },
            {"label": "Images", "value": f"{count:,}", "note": f"{wrong:,} of them wrong"},
            {"label": "Macro F1", "value": f"{evaluation.macro_f1:.3f}", "note": "mean over classes"},
            {"label": "Log loss", "value": f"{evaluation.log_loss:.3f}", "note": "on the same images"},
        ]
        cards[:1] = _accuracies(evaluation, cards[0])
    if tested := run.record.test_result.get("accuracy"):
        low, high = (run.record.test_result[f"accuracy_{end}"] for end in ("low", "high"))
        shown = _interval(Estimate(tested, low, high))
        count = run.record.images.get("test", 0)
        note = f"95 % CI {shown}; {count:,} images, evaluated once"
        cards.append({"label": "Test accuracy", "value": _percent(tested), "note": note})
    time = facts.duration(run.record.seconds) or "–"
    return [*cards, {"label": "Training time", "value": time, "note": f"{len(run.history['epoch'])} epochs"}]


def _accuracies(evaluation: Evaluation, accuracy: dict[str, str]) -> list[dict[str, str]]:
    """The accuracy; where classes are uneven, behind the mean of their recalls, which no large class can hide in."""
    if not evaluation.uneven:
        return [accuracy]
    balanced = evaluation.balanced_accuracy
    card = {
        "label": "Balanced accuracy",
        "value": _percent(balanced.value),
        "about": f"± {50 * (balanced.high - balanced.low):.1f}",
        "note": f"mean recall of the classes; 95 % CI {_interval(balanced)}",
    }
    return [card, accuracy]


def _notes(result: RunResult) -> list[str]:
    notes = []
    if result.run.folder.state is RunState.begun:
        notes.append("This run was not finished: it has no model.keras. Only its curves are shown.")
    elif result.predictions is None:
        notes.append(
            "The images that this run was validated on are not there. Give a folder of class folders with --data to "
            "see accuracy, mistakes and calibration."
        )
    elif result.predictions.unreadable:
        names = ", ".join(path for path, _ in result.predictions.unreadable)
        notes.append(f"{len(result.predictions.unreadable)} images could not be read and are left out: {names}")
    return notes


def _history_rows(run: Run) -> list[dict[str, str]]:
    names = [name for name in run.history if name != "epoch"]
    return [
        {"Epoch": f"{int(epoch) + 1}"}
        | {name: "" if run.history[name][i] is None else facts.number(run.history[name][i]) for name in names}
        for i, epoch in enumerate(run.history["epoch"])
    ]


def _confused(run: Run, evaluation: Evaluation, most: int = 10) -> list[dict[str, Any]]:
    counts = evaluation.confusion.copy()
    np.fill_diagonal(counts, 0)
    pairs = np.argsort(-counts, axis=None, kind="stable")[:most]
    rows = []
    for true, predicted in zip(*np.unravel_index(pairs, counts.shape), strict=True):
        if counts[true, predicted]:
            share = counts[true, predicted] / evaluation.confusion[true].sum()
            names = {"True class": run.class_names[true], "Taken for": run.class_names[predicted]}
            rows.append({**names, "Images": counts[true, predicted], "Of the true class": _percent(share)})
    return rows


def _gallery(run: Run, predictions: LabelledPredictions, evaluation: Evaluation, rows: Any) -> list[dict[str, Any]]:
    policy = ImagePolicy.from_dict(run.record.config.policy)
    images = []
    for row in rows:
        try:
            image = thumbnails.thumbnail(predictions.root / predictions.paths[row], policy)
        except ImageError:  # it could be read a minute ago
            image = None
        images.append(
            {
                "image": image,
                "path": predictions.paths[row],
                "true": run.class_names[predictions.labels[row]],
                "predicted": run.class_names[evaluation.predicted[row]],
                "confidence": float(evaluation.confidence[row]),
            }
        )
    return images


def _augmented(run: Run) -> list[dict[str, Any]]:
    config = run.record.config
    data = Path(config.data)
    if not config.augment or not data.exists():
        return []
    root, names = image_paths(data, config.table)
    chosen = sample_images(names, AUGMENTED_IMAGES)
    policy = ImagePolicy.from_dict(config.policy)
    augmentation, in_batches = make_augmentation(config.augment), make_batch_augmentation(config.augment)
    rows = augmented_copies(root, chosen, augmentation, config.image_size, policy, AUGMENTED_COPIES, 0, in_batches)
    return [{"path": name, "images": [thumbnails.data_uri(image) for image in images]} for name, images in rows]


def _benchmark(report: Report) -> dict[str, Any]:
    return {
        "verdict": "The figures are valid." if report.valid else f"Not to be quoted: {'; '.join(report.reasons)}.",
        "headlines": [(name.capitalize(), text) for name, text in headlines(report).items()],
        "figures": [{name.capitalize(): text for name, text in row.items()} for row in figures(report)],
    }


def _scores(evaluation: Evaluation | LabelEvaluation | None) -> dict[str, str]:
    """The columns of a comparison that are about a run's answers."""
    if isinstance(evaluation, LabelEvaluation):
        return label_page.comparison_row(evaluation)
    return {
        "Accuracy": _percent(evaluation.accuracy.value) if evaluation else "–",
        "95 % interval": _interval(evaluation.accuracy) if evaluation else "–",
        "Macro F1": f"{evaluation.macro_f1:.3f}" if evaluation else "–",
        "Log loss": f"{evaluation.log_loss:.3f}" if evaluation else "–",
    }


def _comparison(results: Sequence[RunResult]) -> dict[str, Any]:
    rows = [
        {
            "Run": result.run.name,
            **_scores(result.evaluation),
            "Epochs": len(result.run.history["epoch"]),
            "Time": facts.duration(result.run.record.seconds) or "–",
            "Parameters": f"{result.predictions.parameters:,}" if result.predictions else "–",
            "Backbone": result.run.record.config.backbone,
        }
        for result in results
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {
        "rows": [{name: row.get(name, "–") for name in names} for row in rows],
        "sentences": [sentence for pair in combinations(results, 2) for sentence in _difference(*pair)],
        "charts": charts.curves([result.run for result in results]),
    }


def _difference(one: RunResult, other: RunResult) -> list[str]:
    """Whether two models differ by more than chance; nothing where they did not see the same images."""
    if one.predictions is None or other.predictions is None:
        return []
    if not isinstance(one.evaluation, Evaluation) or not isinstance(other.evaluation, Evaluation):
        return []
    if one.predictions.paths != other.predictions.paths:
        return [f"{one.run.name} and {other.run.name} were not measured on the same images: compare with care."]
    right = one.evaluation.predicted == one.predictions.labels
    other_right = other.evaluation.predicted == other.predictions.labels
    p = chance_of_difference(right, other_right)
    verdict = "more than chance explains" if p < 0.05 else "which may be chance"
    return [
        f"{one.run.name} is right on {(right & ~other_right).sum()} images that {other.run.name} gets wrong, and "
        f"wrong on {(~right & other_right).sum()} that it gets right, {verdict} (exact McNemar test, p = {p:.2g})."
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _interval(share: Estimate) -> str:
    return f"{100 * share.low:.1f}–{100 * share.high:.1f}\N{NO-BREAK SPACE}%"
