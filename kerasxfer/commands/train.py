import contextlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kerasxfer_serving.commands import _output
from kerasxfer_serving.errors import UsageError
from typer import Argument, Option

from kerasxfer.commands import _options

if TYPE_CHECKING:
    from kerasxfer.runs.config import TrainConfig

_EPOCHS = 30


class OnError(StrEnum):
    """What to do about images that cannot be read."""

    stop = "raise"
    skip = "skip"


_MODEL, _DATA, _TUNE = "Model", "Pictures", "Fine-tuning"


def train(
    data: Annotated[Path, Argument(metavar="DATA", help="Folder of class folders to train on.", show_default=False)],
    out: Annotated[Path | None, Option(help="Run folder to write.", show_default=False)] = None,
    validation: Annotated[
        Path | None, Option(help="Folder of class folders to validate on.", rich_help_panel=_DATA, show_default=False)
    ] = None,
    validation_split: Annotated[
        float | None, Option(help="Fraction of DATA to validate on.", rich_help_panel=_DATA, show_default=False)
    ] = None,
    image_size: Annotated[str, Option(help="Side, or HEIGHTxWIDTH, in pixels.", rich_help_panel=_DATA)] = "150",
    resize: Annotated[str, Option(help="stretch, crop or pad to the size.", rich_help_panel=_DATA)] = "stretch",
    interpolation: Annotated[str, Option(help="Filter of the resize.", rich_help_panel=_DATA)] = "bilinear",
    exif: Annotated[str, Option(help="apply or ignore the orientation tag.", rich_help_panel=_DATA)] = "apply",
    augment: Annotated[
        str | None,
        Option(help="`standard`, or rotation_range=40,zoom_range=0.2,…", rich_help_panel=_DATA, show_default=False),
    ] = None,
    backbone: Annotated[str, Option(help="Name in keras.applications.", rich_help_panel=_MODEL)] = "VGG16",
    backbone_output: Annotated[
        str | None,
        Option(help="Inner layer to take features from, e.g. mixed7.", rich_help_panel=_MODEL, show_default=False),
    ] = None,
    backbone_args: Annotated[
        str | None, Option(help="Further arguments, e.g. alpha=0.75.", rich_help_panel=_MODEL, show_default=False)
    ] = None,
    preprocess: Annotated[
        str | None,
        Option(
            help="What is done to pixels first: vgg16, rescale, none. Defaults to the backbone's own.",
            rich_help_panel=_MODEL,
            show_default=False,
        ),
    ] = None,
    weights: Annotated[str, Option(help="`imagenet`, a weights file, or `none`.", rich_help_panel=_MODEL)] = "imagenet",
    head: Annotated[
        str, Option(help="Pooling and hidden units: average, max, flatten-256.", rich_help_panel=_MODEL)
    ] = "average",
    dropout: Annotated[float, Option(help="Fraction dropped in the head.", rich_help_panel=_MODEL)] = 0.2,
    sigmoid: Annotated[
        bool, Option("--sigmoid", help="One sigmoid unit for two classes.", rich_help_panel=_MODEL)
    ] = False,
    optimizer: Annotated[str, Option(help="Name in keras.optimizers.")] = "adam",
    learning_rate: Annotated[float, Option(help="Of the head; the stages of a schedule may have their own.")] = 1e-3,
    epochs: Annotated[
        int | None, Option(help="Epochs of the head, or of the whole --schedule. Defaults to 30.", show_default=False)
    ] = None,
    batch_size: Annotated[int, Option(help="Pictures in a batch.")] = 32,
    unfreeze: Annotated[
        str | None,
        Option(help="Block to train after the head, e.g. block5.", rich_help_panel=_TUNE, show_default=False),
    ] = None,
    fine_tune_epochs: Annotated[int, Option(help="Epochs with --unfreeze.", rich_help_panel=_TUNE)] = 10,
    fine_tune_learning_rate: Annotated[float, Option(help="Rate with --unfreeze.", rich_help_panel=_TUNE)] = 1e-5,
    schedule: Annotated[
        Path | None,
        Option(help="YAML file of stages instead of --unfreeze.", rich_help_panel=_TUNE, show_default=False),
    ] = None,
    plan: Annotated[
        bool, Option("--plan", help="Show stages and cache plan; train nothing.", rich_help_panel=_TUNE)
    ] = False,
    cache: Annotated[
        Path | None, Option(help="Folder of cached activations. Defaults to OUT/cache.", show_default=False)
    ] = None,
    no_cache: Annotated[bool, Option("--no-cache", help="Run every layer in every epoch.")] = False,
    on_error: Annotated[OnError, Option(help="Stop at images that cannot be read, or leave them out.")] = OnError.stop,
    seed: Annotated[int, Option(help="Of weights, split, order and augmentation.")] = 0,
    resume: Annotated[bool, Option("--resume", help="Go on after the last finished epoch of OUT.")] = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Discard the run in OUT.")] = False,
    format: Annotated[_output.Format, Option(help="How the result is printed.")] = _output.Format.text,
) -> None:
    """Train a classifier on class folders; write a run folder."""
    from kerasxfer.runs.config import TrainConfig

    if out is None and not plan:
        raise UsageError("`--out` names the run folder to write; only `--plan` does without.")
    if resume and overwrite:
        raise UsageError("`--resume` and `--overwrite` exclude each other; give one.")
    if cache and no_cache:
        raise UsageError("`--cache` and `--no-cache` exclude each other; give one.")
    if schedule and unfreeze:
        raise UsageError("`--schedule` and `--unfreeze` exclude each other; give one.")
    augmentation = _options.assignments("--augment", augment)
    stages = _stages_of_file(schedule) if schedule else []
    if unfreeze:
        fine_tuning = {"unfreeze": unfreeze, "epochs": fine_tune_epochs, "learning_rate": fine_tune_learning_rate}
        stages = [{"epochs": epochs or _EPOCHS}, fine_tuning]
    config = TrainConfig(
        data=str(data),
        validation=str(validation) if validation else None,
        validation_split=validation_split,
        backbone=backbone,
        backbone_output=backbone_output,
        backbone_args=_options.assignments("--backbone-args", backbone_args),
        weights=None if weights == "none" else weights,
        preprocess=preprocess,
        image_size=_options.image_size(image_size),
        policy={"interpolation": interpolation, "resize": resize, "exif": exif, "draft": False},
        head=head,
        dropout=dropout,
        activation="sigmoid" if sigmoid else "softmax",
        optimizer=optimizer,
        learning_rate=learning_rate,
        epochs=_total_epochs(stages, None if unfreeze else epochs),
        batch_size=batch_size,
        augment=augmentation,
        schedule=stages,
        # Fresh random pictures in every epoch cannot come from a cache.
        cache=None if no_cache or augmentation else str(cache or (out or Path()) / "cache"),
        seed=seed,
        on_error=on_error.value,
    )
    if plan:
        _show_plan(config, format)
    elif out is not None:
        _train(config, out, resume=resume, overwrite=overwrite, format=format)


def _stages_of_file(path: Path) -> list[dict[str, Any]]:
    from kerasxfer.callbacks import ProgressiveUnfreezing

    return [stage.to_dict() for stage in ProgressiveUnfreezing.from_yaml(path).stages]


def _total_epochs(stages: list[dict[str, Any]], epochs: int | None) -> int:
    """Return the epochs of the whole run; the stages' own where none are asked for."""
    if epochs or not stages:
        return epochs or _EPOCHS
    own: list[int] = [stage.get("epochs") or 0 for stage in stages]
    if not all(own):
        raise UsageError("`--epochs` must say where the run ends, since a stage of the `--schedule` has no `epochs`.")
    return sum(own)


def _show_plan(config: "TrainConfig", format: _output.Format) -> None:
    from kerasxfer.runs.training import plan

    plans = plan(config)
    if format is _output.Format.json:
        _output.print_json({title: each.rows for title, each in plans.items()})
    else:
        print("\n\n".join(f"{title}\n{each}" for title, each in plans.items()))


def _train(config: "TrainConfig", out: Path, *, resume: bool, overwrite: bool, format: _output.Format) -> None:
    from kerasxfer.runs.training import train

    with contextlib.redirect_stdout(sys.stderr):  # Keras's progress; the result alone is data
        record = train(config, out, resume=resume, overwrite=overwrite)
    result = {"run": str(out), **record.result, "seconds": round(record.seconds or 0, 1)}
    if format is _output.Format.json:
        _output.print_json(result)
    else:
        print(
            ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in result.items()
            )
        )
