import contextlib
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kerasxfer_serving.commands.choices import ResultFormat
from kerasxfer_serving.commands.options import FormatOption, grouped, read_size
from kerasxfer_serving.commands.output import note, print_json
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.model.task import MULTI_LABEL, SINGLE_LABEL
from typer import Argument, Exit, Option

from kerasxfer.commands import _options as options
from kerasxfer.commands._options import OnError

if TYPE_CHECKING:
    from kerasxfer.runs.config import TrainConfig

_EPOCHS = 30
_INTERRUPTED = 130  # what a shell makes of Ctrl-C
_MODEL, _IMAGES, _TUNE, _KEEP = "Model", options.IMAGES, "Fine-tuning", "Best epoch"
_REGULAR, _CLASSES = "Augmentation and regularisation", "Uneven classes"


class Keep(StrEnum):
    """Which epoch's weights a run ends with."""

    best = "best"
    last = "last"


class Balance(StrEnum):
    """How classes of uneven size are balanced."""

    balanced = "balanced"


class Dtype(StrEnum):
    """Keras's dtype policies for training."""

    float32 = "float32"
    mixed_bfloat16 = "mixed_bfloat16"
    mixed_float16 = "mixed_float16"


@grouped
def train(
    data: Annotated[
        Path, Argument(metavar="DATA", help="Class folders, or a table of images and labels.", show_default=False)
    ],
    out: Annotated[Path, Option(help="Run folder to write.")] = Path("run"),
    *,
    validation: Annotated[
        Path | None,
        Option(help="Class folders or a table to validate on.", rich_help_panel=_IMAGES, show_default=False),
    ] = None,
    validation_split: Annotated[
        float | None,
        Option(
            help="Fraction of DATA to hold out for validation instead, such as 0.2.",
            rich_help_panel=_IMAGES,
            show_default=False,
        ),
    ] = None,
    test: Annotated[
        Path | None,
        Option(
            help="Class folders to evaluate the finished model on, once.",
            rich_help_panel=_IMAGES,
            show_default=False,
        ),
    ] = None,
    image_size: options.ImageSizeOption = "150",
    policy: options.PolicyOptions,
    augment: Annotated[
        str | None,
        Option(
            help="Augment training images: `standard`, `rand` or rotation_range=40,zoom_range=0.2,…; add any of "
            "mixup=0.2, cutmix=1.0 and erasing=0.25.",
            rich_help_panel=_REGULAR,
            show_default=False,
        ),
    ] = None,
    copies: Annotated[
        int,
        Option(
            min=0,
            help="Cache this many augmented copies of each image for the epochs to take turns with; 0 augments anew in "
            "every epoch, without a cache.",
            rich_help_panel=_REGULAR,
        ),
    ] = 0,
    label_smoothing: Annotated[
        float, Option(min=0, max=1, help="Share of each target to spread over all classes.", rich_help_panel=_REGULAR)
    ] = 0.0,
    ema: Annotated[
        float | None,
        Option(
            help="Momentum, such as 0.99, of a moving average of the weights to validate and keep.",
            rich_help_panel=_REGULAR,
            show_default=False,
        ),
    ] = None,
    class_weight: Annotated[
        Balance | None,
        Option(
            help="Weight the loss so that every class counts the same, whatever its size.",
            rich_help_panel=_CLASSES,
            show_default=False,
        ),
    ] = None,
    sampling: Annotated[
        Balance | None,
        Option(
            help="Draw equally many images of each class in every epoch.", rich_help_panel=_CLASSES, show_default=False
        ),
    ] = None,
    on_error: options.OnErrorOption = OnError.stop,
    exclude: Annotated[
        Path | None,
        Option(
            help="Decisions table of `kerasxfer audit`: images to leave out, labels to change.",
            rich_help_panel=_IMAGES,
            show_default=False,
        ),
    ] = None,
    table: options.TableToTrainOn,
    network: options.BackboneOptions,
    weights: Annotated[
        str, Option(help="`imagenet`, a weights file, or `none` for random weights.", rich_help_panel=_MODEL)
    ] = "imagenet",
    head: Annotated[
        str,
        Option(help="Pooling (average, max or flatten) and hidden units, such as flatten-256.", rich_help_panel=_MODEL),
    ] = "average-256",
    dropout: Annotated[float, Option(min=0, max=1, help="Dropout rate of the head.", rich_help_panel=_MODEL)] = 0.5,
    sigmoid: Annotated[
        bool, Option("--sigmoid", help="Use one sigmoid unit for two classes.", rich_help_panel=_MODEL)
    ] = False,
    multi_label: Annotated[
        bool,
        Option(
            "--multi-label",
            help="Images have any number of labels: one sigmoid per class. DATA must be a table.",
            rich_help_panel=_MODEL,
        ),
    ] = False,
    dtype: Annotated[
        Dtype, Option(help="Precision that layers compute in; weights stay float32.", rich_help_panel=_MODEL)
    ] = Dtype.float32,
    optimizer: Annotated[str, Option(help="An optimizer of keras.optimizers.")] = "adam",
    learning_rate: Annotated[
        float, Option(help="Learning rate of the head; stages of a schedule may set their own.")
    ] = 3e-4,
    epochs: Annotated[
        int | None,
        Option(
            min=1,
            help="Epochs for the head, or for the whole --schedule. Defaults to 30.",
            show_default=False,
        ),
    ] = None,
    batch_size: options.BatchSizeOption = 32,
    keep: Annotated[
        Keep,
        Option(help="Keep the weights of the best epoch, judged by --monitor, or of the last.", rich_help_panel=_KEEP),
    ] = Keep.best,
    monitor: Annotated[
        str,
        Option(
            help="Metric that decides the best epoch: a column of history.csv, such as val_accuracy.",
            rich_help_panel=_KEEP,
        ),
    ] = "val_loss",
    patience: Annotated[
        int | None,
        Option(
            min=1,
            help="End a stage, or the training of the head, after this many epochs without improvement.",
            rich_help_panel=_KEEP,
            show_default=False,
        ),
    ] = None,
    unfreeze: Annotated[
        str | None,
        Option(help="Block to fine-tune after the head, such as block5.", rich_help_panel=_TUNE, show_default=False),
    ] = None,
    fine_tune_epochs: Annotated[
        int, Option(min=1, help="Epochs of fine-tuning with --unfreeze.", rich_help_panel=_TUNE)
    ] = 10,
    fine_tune_learning_rate: Annotated[
        float, Option(help="Learning rate of fine-tuning with --unfreeze.", rich_help_panel=_TUNE)
    ] = 1e-5,
    schedule: Annotated[
        Path | None,
        Option(help="YAML file of stages instead of --unfreeze.", rich_help_panel=_TUNE, show_default=False),
    ] = None,
    plan: Annotated[
        bool,
        Option("--plan", help="Show the stages and what would be cached, and train nothing.", rich_help_panel=_TUNE),
    ] = False,
    cache: options.CacheOption = None,
    no_cache: Annotated[bool, Option("--no-cache", help="Cache nothing; run every layer in every epoch.")] = False,
    seed: Annotated[int, Option(min=0, help="Seed of the weights, the split, the order and the augmentation.")] = 0,
    resume: Annotated[bool, Option("--resume", help="Continue the run in OUT from where it stopped.")] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Discard the run in OUT; other files in the folder stay.")
    ] = False,
    format: FormatOption = ResultFormat.text,
) -> None:
    """Train a classifier on class folders, or on a table of images and labels, and write a run folder.

    Example: kerasxfer train labels.csv --images photos --validation-split 0.2 --group-column patient --out run
    """
    from kerasxfer.runs.config import TrainConfig

    _refuse_both("--resume", resume, "--overwrite", overwrite)
    _refuse_both("--cache", cache, "--no-cache", no_cache)
    _refuse_both("--sigmoid", sigmoid, "--multi-label", multi_label)
    _refuse_both("--schedule", schedule, "--unfreeze", unfreeze)
    augmentation = options.assignments("--augment", augment)
    stages = _stages_of_file(schedule) if schedule else []
    if unfreeze:
        fine_tuning = {"unfreeze": unfreeze, "epochs": fine_tune_epochs, "learning_rate": fine_tune_learning_rate}
        stages = [{"epochs": epochs or _EPOCHS}, fine_tuning]
    config = TrainConfig(
        data=str(data),
        validation=str(validation) if validation else None,
        validation_split=validation_split,
        test=str(test) if test else None,
        backbone=network.backbone,
        backbone_output=network.backbone_output,
        backbone_args=network.arguments,
        weights=None if weights == "none" else weights,
        preprocess=network.preprocess,
        image_size=read_size("--image-size", image_size),
        policy=policy.fields(),
        head=head,
        dropout=dropout,
        activation="sigmoid" if sigmoid or multi_label else "softmax",
        task=MULTI_LABEL if multi_label else SINGLE_LABEL,
        optimizer=optimizer,
        learning_rate=learning_rate,
        epochs=_total_epochs(stages, None if unfreeze else epochs),
        batch_size=batch_size,
        augment=augmentation,
        copies=copies,
        class_weight=class_weight and class_weight.value,
        sampling=sampling and sampling.value,
        label_smoothing=label_smoothing,
        ema=ema,
        dtype=dtype.value,
        schedule=stages,
        keep=keep.value,
        monitor=monitor,
        patience=patience,
        cache=str(cache) if cache else None if no_cache or (augmentation and not copies) else str(out / "cache"),
        seed=seed,
        on_error=on_error.value,
        exclude=str(exclude) if exclude else None,
        table=table.said(),
    )
    if plan:
        _show_plan(config, format)
    else:
        _train(config, out, resume=resume, overwrite=overwrite, format=format)


def _refuse_both(option: str, value: object, other: str, other_value: object) -> None:
    if value and other_value:
        raise UsageError(f"`{option}` and `{other}` exclude each other: give only one.")


def _stages_of_file(path: Path) -> list[dict[str, Any]]:
    from kerasxfer.callbacks import ProgressiveUnfreezing

    return [stage.to_dict() for stage in ProgressiveUnfreezing.from_yaml(path).stages]


def _total_epochs(stages: list[dict[str, Any]], epochs: int | None) -> int:
    """Return the epochs of the whole run: those asked for, or the sum of the stages' own."""
    if epochs or not stages:
        return epochs or _EPOCHS
    own: list[int] = [stage.get("epochs") or 0 for stage in stages]
    if not all(own):
        raise UsageError("A stage of the `--schedule` has no `epochs`: give `--epochs` to say when the run ends.")
    return sum(own)


def _show_plan(config: "TrainConfig", format: ResultFormat) -> None:
    from kerasxfer.runs.training import plan_training

    plans = plan_training(config)
    if format is ResultFormat.json:
        print_json({title: each.rows for title, each in plans.items()})
    else:
        print("\n\n".join(f"{title}\n{each}" for title, each in plans.items()))


def _train(config: "TrainConfig", out: Path, *, resume: bool, overwrite: bool, format: ResultFormat) -> None:
    from kerasxfer.runs.training import train

    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras's progress; the result alone is data
            record = train(config, out, resume=resume, overwrite=overwrite)
    except KeyboardInterrupt:
        note(f"Interrupted. Finished work is in `{out}`; continue with `--resume`.")
        raise Exit(_INTERRUPTED) from None
    result = {"run": str(out), **record.result, "seconds": round(record.seconds or 0, 1)}
    kept = {"kept_epoch": record.kept_epoch, "monitor": config.monitor} if record.kept_epoch else {}
    if format is ResultFormat.json:
        print_json({**result, **kept, **({"test": record.test_result} if record.test_result else {})})
        return
    print(_listed(result))
    if kept:
        print(f"kept: epoch {record.kept_epoch}, the best by {config.monitor}")
    if record.test_result:
        print(f"test: {_listed(record.test_result)}")


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(
        f"{key.replace('_', ' ')} {value:.4g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
        for key, value in values.items()
    )
