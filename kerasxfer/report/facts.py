"""Tables of the report: what the run was, stage by stage, and what was measured elsewhere."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.task import MULTI_LABEL

from kerasxfer.report.runs import Run
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.histories import stage_starts

Facts = dict[str, list[tuple[str, str]]]


def facts(run: Run, parameters: int | None) -> Facts:
    """What the run was made of, in groups of name and value."""
    record, config = run.record, run.record.config
    policy = ImagePolicy.from_dict(config.policy)
    height, width = config.image_size
    validation, tested = record.images.get("validation"), record.images.get("test")
    groups: dict[str, list[tuple[str, Any]]] = {
        "Data": [
            ("Training", _with_count(config.data, record.images.get("training"))),
            ("Validation", _with_count(_validation(config, validation), validation)),
            ("Classes", _listed(run.class_names)),
            ("Size", f"{height} × {width} pixels, {policy.resize}, {policy.interpolation}"),
            ("Test", _with_count(config.test or f"rows of {config.data}", tested) if tested else None),
            ("Table", _settings({name: value for name, value in vars(config.table).items() if value is not None})),
            ("Augmentation", _settings(config.augment) or "none"),
            ("Augmented copies", config.copies or None),
            ("Classes in the loss", config.class_weight),
            ("Classes in an epoch", config.sampling),
        ],
        "Model": [
            ("Backbone", " ".join(filter(None, (config.backbone, _settings(config.backbone_args))))),
            ("Features from", config.backbone_output),
            ("Preprocessing", config.preprocess),
            ("Weights", config.weights or "random"),
            ("Weights SHA-256", (record.weights_sha256 or "")[:16]),
            ("Head", config.head),
            ("Dropout", config.dropout),
            ("Precision", None if config.dtype == "float32" else config.dtype),
            ("Output", config.activation),
            ("Task", "several labels to an image" if config.task == MULTI_LABEL else None),
            ("Parameters", f"{parameters:,}" if parameters else None),
        ],
        "Training": [
            ("Optimizer", config.optimizer),
            ("Learning rate", number(config.learning_rate)),
            ("Batch size", config.batch_size),
            ("Label smoothing", config.label_smoothing or None),
            ("Average of weights", config.ema),
            ("Epochs", f"{len(run.history['epoch'])} of {config.epochs}"),
            ("Patience", config.patience),
            ("Kept", f"epoch {record.kept_epoch}, the best by {config.monitor}" if record.kept_epoch else None),
            ("Schedule", " → ".join(_stage_text(stage) for stage in config.schedule) or "head only"),
            ("Seed", config.seed),
            ("Time", duration(record.seconds)),
        ],
        "Made with": [
            ("Backend", record.backend),
            *record.versions.items(),
            ("Command", " ".join(record.command)),
        ],
    }
    return {
        title: [(name, str(value)) for name, value in rows if value not in (None, "")] for title, rows in groups.items()
    }


def sentence(run: Run) -> str:
    """The run in one line."""
    config, classes = run.record.config, run.class_names
    training = run.record.images.get("training")
    parts = [
        config.backbone,
        f"weights: {Path(config.weights or 'random').name}",
        f"{len(classes)} classes"
        if len(classes) > 4
        else " and ".join(classes)
        if len(classes) == 2
        else ", ".join(classes),
        f"{training:,} training images" if training else None,
        " → ".join(_stage_name(stage) for stage in config.schedule) or "head only",
        run.record.backend,
    ]
    return " · ".join(filter(None, parts))


def stage_rows(run: Run) -> list[dict[str, str]]:
    """A row for each stage of the schedule that was reached."""
    history = run.history
    starts = stage_starts(history)
    schedule = run.record.config.schedule
    rows = []
    for place, ((first, label), (end, _)) in enumerate(pairwise([*starts, (len(history["epoch"]), "")])):
        trained = {"Unfrozen": _stage_name(schedule[place])} if place < len(schedule) else {}
        row = {"Stage": label, **trained, "Epochs": f"{first + 1}–{end}" if end > first + 1 else f"{end}"}
        for key, title in (("learning_rate", "Learning rate"), ("trainable_params", "Trainable parameters")):
            if key in history:
                row[title] = number(history[key][first])
        for key, best in (("val_accuracy", max), ("val_loss", min)):
            values = [value for value in history.get(key, [])[first:end] if value is not None]
            if values:
                row[f"Best {key.removeprefix('val_')} in validation"] = f"{best(values):.4f}"
        rows.append(row)
    return rows


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested figures as pairs of a readable name and a value."""
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name}, ")
        elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
            yield from flattened({str(i): item for i, item in enumerate(value, start=1)}, f"{name} ")
        elif value is not None:
            yield name, _listed(value) if isinstance(value, list) else number(value)


def duration(seconds: float | None) -> str | None:
    """Seconds as a person says them."""
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _validation(config: TrainConfig, images: int | None) -> str:
    if config.validation:
        return config.validation
    if config.validation_split:
        return f"{config.validation_split:.0%} of {config.data}"
    return f"rows of {config.data}" if images else "none"


def _with_count(text: str, count: int | None) -> str:
    return f"{text} ({count:,} images)" if count else text


def _stage_name(stage: Mapping[str, Any]) -> str:
    unfreeze = stage.get("unfreeze")
    return str(stage.get("name") or (_listed(unfreeze) if isinstance(unfreeze, list) else unfreeze) or "head")


def _stage_text(stage: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in stage.items() if key not in ("unfreeze", "name") and value is not None}
    return f"{_stage_name(stage)} ({_settings(rest)})" if rest else _stage_name(stage)


def _settings(values: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in (values or {}).items())


def _listed(items: list[Any], most: int = 12) -> str:
    shown = ", ".join(str(item) for item in items[:most])
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown


def number(value: object) -> str:
    """A figure with as many digits as mean something; anything else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) >= 1000):
        return f"{int(value):,}" if abs(value) >= 10_000 else f"{int(value)}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
