"""The parts of a model card, as Markdown."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from kerasxfer_serving.benchmarking.report import Report
from kerasxfer_serving.files import format_bytes

from kerasxfer.estimate import Estimate
from kerasxfer.export.report import Exported
from kerasxfer.multi_label.figures import LabelEvaluation
from kerasxfer.report.facts import Facts, facts, sentence, stage_rows
from kerasxfer.report.runs import Run

if TYPE_CHECKING:
    from kerasxfer.report.metrics import Evaluation

_MOST_CLASSES = 50
_FEW_IMAGES = 1000


@dataclasses.dataclass(frozen=True)
class Known:
    """What a card is made of.

    Args:
        exported: The file and its comparison with the Keras model.
        run: The run that the model comes from, or `None`.
        evaluation: Figures of the file on validation images, or `None`.
        benchmark: What was measured of this very file, or `None`.
    """

    exported: Exported
    run: Run | None
    evaluation: "Evaluation | LabelEvaluation | None"
    benchmark: Report | None


def sections(known: Known) -> Iterator[str]:
    """The parts of the card, in their order, as Markdown."""
    exported, run, evaluation = known.exported, known.run, known.evaluation
    title = run.folder.path.resolve().name if run else exported.file.path.stem
    yield _metadata(title, run, evaluation)
    yield f"# {_text(title)}"
    yield _about(exported, run)
    yield _classes(exported)
    yield _use(exported)
    if run:
        yield from _training(run)
    yield _results(exported, evaluation)
    if evaluation and not isinstance(evaluation, LabelEvaluation):
        yield _calibration(evaluation)
    yield _parity(exported)
    yield _speed(exported, known.benchmark)
    yield _limits(exported, evaluation)


def _metadata(title: str, run: Run | None, evaluation: "Evaluation | LabelEvaluation | None") -> str:
    data: dict[str, Any] = {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "kerasxfer", "onnx", "transfer-learning"],
    }
    if run and evaluation:
        config = run.record.config
        dataset = {"name": f"{Path(config.validation or config.data).name} (validation images)", "type": "imagefolder"}
        metrics = _metrics(evaluation)
        task = {"type": "image-classification"}
        data["metrics"] = [metric["type"] for metric in metrics]
        data["model-index"] = [{"name": title, "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}]
    return f"---\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True)}---"


def _metrics(evaluation: "Evaluation | LabelEvaluation") -> list[dict[str, Any]]:
    """The figures as the metadata of a hub have them."""
    if isinstance(evaluation, LabelEvaluation):
        return [
            {"type": "mean_average_precision", "value": round(evaluation.mean_average_precision.value, 4)},
            {"type": "f1", "name": "Macro F1", "value": round(evaluation.macro_f1.value, 4)},
        ]
    return [
        {"type": "accuracy", "value": round(float(evaluation.accuracy.value), 4)},
        {"type": "f1", "name": "Macro F1", "value": round(float(evaluation.macro_f1), 4)},
    ]


def _about(exported: Exported, run: Run | None) -> str:
    manifest, file = exported.manifest, exported.file
    height, width = manifest.image_size
    rows = [
        ("File", f"`{file.path.name}`, {format_bytes(file.size)}, {manifest.precision}, opset {manifest.opset}"),
        ("SHA-256", f"`{file.sha256}`"),
        ("Input", f"`{manifest.input_name}`: uint8 RGB pixels, batch × {height} × {width} × 3"),
        ("Output", f"`{manifest.output_name}`: {manifest.output} probabilities"),
        ("Images", f"{manifest.policy.resize} to {height} × {width}, {manifest.policy.interpolation}"),
    ]
    said = f"{_text(sentence(run))}.\n\n" if run else ""
    return f"{said}An image classifier in ONNX. Normalisation is inside the graph.\n\n{_table(('', ''), rows)}"


def _classes(exported: Exported) -> str:
    names = exported.manifest.class_names
    rows = [(str(number), _text(name)) for number, name in enumerate(names[:_MOST_CLASSES])]
    rest = f"\n\nand {len(names) - _MOST_CLASSES:,} more, in the manifest." if len(names) > _MOST_CLASSES else ""
    return f"## Classes\n\n{_table(('column', 'class'), rows)}{rest}"


def _use(exported: Exported) -> str:
    name = exported.file.path.name
    return f"""## Use

```sh
pip install "kerasxfer-serving[cpu]"
kerasxfer-serving predict {name} images -o predictions.csv
```

```python
from kerasxfer_serving import Predictor

with Predictor("{name}") as predictor:
    predictions = predictor.predict(["image.jpg"])
print(predictions.{"label_sets" if exported.manifest.is_multi_label else "labels"}, predictions.probabilities)
```"""


def _training(run: Run) -> Iterator[str]:
    groups = facts(_without_places(run), None)
    yield f"## Data\n\n{_facts(groups, 'Data')}"
    yield f"## Training\n\n{_facts(groups, 'Model', 'Training', 'Made with')}"
    if stages := stage_rows(run):
        yield _table(tuple(stages[0]), [tuple(map(_text, row.values())) for row in stages])


def _without_places(run: Run) -> Run:
    """A run whose folders and files are called by their names: a card is for others."""
    config = run.record.config
    config = dataclasses.replace(
        config,
        data=Path(config.data).name,
        validation=config.validation and Path(config.validation).name,
        weights=config.weights and Path(config.weights).name,
    )
    record = dataclasses.replace(run.record, config=config, command=())
    return dataclasses.replace(run, record=record)


def _results(exported: Exported, evaluation: "Evaluation | LabelEvaluation | None") -> str:
    if isinstance(evaluation, LabelEvaluation):
        return _results_of_labels(evaluation)
    title = "## Accuracy\n\n"
    if evaluation is None:
        if exported.check and exported.check.file_accuracy:
            return f"{title}{exported.check.file_accuracy} of the labelled images, with its 95 % interval."
        if exported.check and exported.check.file_map:
            return f"## Labels\n\nMean average precision {exported.check.file_map} on labelled images."
        return f"{title}Not measured: the model came without validation images."
    share = evaluation.accuracy
    said = (
        f"**{share.value:.1%}** of {len(evaluation.predicted):,} validation images, 95 % interval {share.low:.1%} to "
        f"{share.high:.1%} (Wilson). Macro F1 {evaluation.macro_f1:.3f}, log loss {evaluation.log_loss:.3f}. "
        "The figures are those of this file; the best epoch may have been chosen on the same images."
    )
    rows = [
        (
            _text(each.name),
            str(each.images),
            f"{each.precision:.3f}",
            f"{each.recall.value:.3f} ({each.recall.low:.3f} to {each.recall.high:.3f})" if each.recall else "",
            f"{each.f1:.3f}",
        )
        for each in evaluation.classes[:_MOST_CLASSES]
    ]
    return f"{title}{said}\n\n{_table(('class', 'images', 'precision', 'recall', 'F1'), rows)}"


def _results_of_labels(evaluation: LabelEvaluation) -> str:
    average = evaluation.mean_average_precision
    said = (
        f"Mean average precision **{average.value:.3f}** on {len(evaluation.predicted):,} validation images, 95 % "
        f"interval {average.low:.3f} to {average.high:.3f} (bootstrap over images). Macro F1 "
        f"{evaluation.macro_f1.value:.3f}; {evaluation.all_right.value:.1%} of the images have exactly the right "
        "labels. The figures are those of this file; thresholds, and the best epoch, may have been chosen on the same "
        "images."
    )
    rows = [
        (
            _text(each.name),
            str(each.images),
            f"{each.threshold:.4g}",
            _shown(each.average_precision),
            _shown(each.f1),
            _shown(each.auc),
        )
        for each in evaluation.classes[:_MOST_CLASSES]
    ]
    return f"## Labels\n\n{said}\n\n{_table(('label', 'images', 'threshold', 'AP', 'F1', 'AUC'), rows)}"


def _shown(figure: Estimate | None) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})" if figure else ""


def _calibration(evaluation: "Evaluation") -> str:
    rows = [
        (f"{each.low:.1f} to {each.high:.1f}", str(each.images), f"{each.confidence:.3f}", f"{each.accuracy.value:.3f}")
        for each in evaluation.bins
    ]
    return (
        f"## Calibration\n\nExpected calibration error {evaluation.calibration_error:.3f}: how far, on average, the "
        f"probability of the top class lies from the share that is right.\n\n"
        f"{_table(('probability', 'images', 'mean', 'right'), rows)}"
    )


def _parity(exported: Exported) -> str:
    manifest = exported.manifest
    rows = [(precision, _text(str(parity))) for precision, parity in exported.parity.items()]
    if exported.check:
        rows.append(("labelled images", _text(str(exported.check))))
    made = ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))
    return (
        "## Parity\n\nThe file was compared with the Keras model before it was written.\n\n"
        f"{_table(('', 'the file against the Keras model'), rows)}\n\n"
        f"Keras model: SHA-256 `{manifest.source_sha256}`, on {manifest.source_backend}. Made with {made}."
    )


def _speed(exported: Exported, report: Report | None) -> str:
    if report is None:
        return f"## Speed\n\nNot measured. On your machine: `kerasxfer-serving benchmark {exported.file.path.name}`"
    verdict = "VALID" if report.valid else f"INVALID: {'; '.join(report.reasons)}"
    figures = report.summary
    names = (("decode_resize", "decode and resize"), ("device", "the model alone"), ("end_to_end", "files to answers"))
    rows = [(said, f"{figures[name]:,.0f} images/s") for name, said in names if figures[name]]
    cpu = report.environment["cpu"]
    return (
        f"## Speed\n\n{report.device['device']}, {report.cores} cores{_model_of(cpu)}; {verdict}.\n\n"
        f"{_table(('', 'rate'), rows)}"
    )


def _model_of(cpu: dict[str, Any]) -> str:
    return f" of {cpu['model']}" if cpu.get("model") else ""


def _limits(exported: Exported, evaluation: "Evaluation | LabelEvaluation | None") -> str:
    manifest = exported.manifest
    limits = [
        f"It knows {len(manifest.class_names)} classes and no others"
        + ("." if manifest.is_multi_label else ": an image of anything else gets one of them."),
        "Its figures hold for images like those it was measured on; other cameras, crops or places may lower them.",
        "Nobody has examined it for bias, or for use where a mistake does harm.",
    ]
    if evaluation and len(evaluation.predicted) < _FEW_IMAGES:
        limits.append(f"{len(evaluation.predicted)} validation images are few: mind the intervals.")
    if manifest.precision != "fp32":
        limits.append(f"It computes in {manifest.precision}; see Parity.")
    limits += [_text(note) for note in exported.notes]
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _facts(groups: Facts, *titles: str) -> str:
    rows = [(name, _text(value)) for title in titles for name, value in groups.get(title, ())]
    return _table(("", ""), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: str) -> str:
    """Text from names and folders, with nothing in it that Markdown or HTML would obey."""
    words = " ".join(value.split())
    return "".join(f"\\{character}" if character in "\\`*_[]|" else character for character in words).replace(
        "<", "&lt;"
    )
