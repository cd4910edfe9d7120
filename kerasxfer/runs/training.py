"""`kerasxfer train` as a function: class folders in, a run folder out."""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving import __version__
from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.model.task import MULTI_LABEL
from numpy.typing import NDArray

from kerasxfer.bottleneck.cache import BottleneckCache
from kerasxfer.callbacks import ProgressiveUnfreezing, SetEpoch, SmoothedMetricsLogger
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.image_table import ImageTable
from kerasxfer.estimate import Estimate
from kerasxfer.keras_files import load_model
from kerasxfer.multi_label.thresholds import resolve_thresholds
from kerasxfer.runs.best import BestEpoch
from kerasxfer.runs.checkpoint import Checkpoint, read_progress, restore
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.datasets import datasets, test_images
from kerasxfer.runs.destination import check_destination
from kerasxfer.runs.labels import measure_labels
from kerasxfer.runs.leaks import leaked, tell_of_leaks
from kerasxfer.runs.model import compiled_model
from kerasxfer.runs.run_folder import RunFolder, RunRecord, RunState, replacing
from kerasxfer.unfreezing import resolve
from kerasxfer.unfreezing.plan import plan as plan_stages
from kerasxfer.unfreezing.stages import Stage


def train(config: TrainConfig, run: str | Path, *, resume: bool = False, overwrite: bool = False) -> RunRecord:
    """Train a classifier on class folders and leave a run folder.

    Args:
        config: A `TrainConfig`.
        run: Folder to write; must be empty or missing unless `resume` or `overwrite` is set.
        resume: Go on where an interrupted run with the same configuration was stopped.
        overwrite: Discard the run that `run` holds. Files that no run has written stay.

    Returns:
        What `config.json` says: the configuration, what it ran on, which epoch was kept, and as `result` and
        `test_result` the metrics on the validation and the test images.

    Raises:
        KerasxferError: `run` holds other files, a run with another configuration, or images of this one.
    """
    folder = RunFolder(Path(run))
    check_destination(folder, config, resume=resume, overwrite=overwrite)
    keras.utils.set_random_seed(config.seed)
    training, validation = datasets(config)
    test = test_images(config, training.class_names)
    _tell_what_was_read(training, validation, test)
    monitor = _monitor(config, validation)
    model, stages = compiled_model(config, training.class_names), schedule(config, monitor)
    if stages:
        resolve(stages, model)  # what is wrong with a schedule shows before a run folder is made or discarded
    best = BestEpoch(monitor, config.keep == "best", None if stages else config.patience) if monitor else None
    record = _record(config, training, validation, test)
    with folder.locked():
        check_destination(folder, config, resume=resume, overwrite=overwrite)  # another process may have come first
        state = _begin(folder, record, resume=resume)
        with _nothing_left_of_a_false_start(folder), _own_errors(training, validation, test):
            # What fits and evaluates: `keras.Model` itself, or the cache in its place.
            runner: Any = BottleneckCache(config.cache, copies=config.copies) if config.cache else keras.Model
            copies = _leaked(config, model, stages, training, validation)
            if state is RunState.trained:
                model.set_weights(load_model(folder.model).get_weights())
            else:
                if config.keep == "best" and best is None:
                    print(
                        "No validation images tell the best epoch: the weights of the last are kept.", file=sys.stderr
                    )
                _fit(runner, model, config, stages, training, validation, folder, best)
                with replacing(folder.model) as path:
                    model.save(path)
            result = runner.evaluate(model, validation, return_dict=True) if validation else {}
            if validation and copies.any():
                print(tell_of_leaks(runner.evaluate, model, validation, copies, result), file=sys.stderr)
            tested = _with_interval(runner.evaluate(model, test, return_dict=True), len(test.paths)) if test else {}
            thresholds: tuple[float, ...] = ()
            if config.task == MULTI_LABEL and validation:
                figures, thresholds = measure_labels(model, validation)
                result |= figures
            if config.task == MULTI_LABEL and test:
                tested |= measure_labels(model, test, resolve_thresholds(None, thresholds, test.class_names))[0]
        progress = read_progress(folder)
        kept = progress.best_epoch + 1 if config.keep == "best" and progress.best_epoch is not None else None
        record = replace(record, seconds=progress.seconds, kept_epoch=kept, thresholds=thresholds)
        record = replace(record, result=result, test_result=tested)
        record.write(folder.record)
        folder.checkpoint.unlink(missing_ok=True)
    return record


def _fit(
    runner: Any,
    model: keras.Model,
    config: TrainConfig,
    stages: list[Stage],
    training: ImageDataset,
    validation: ImageDataset | None,
    folder: RunFolder,
    best: BestEpoch | None,
) -> None:
    """Train from the run's checkpoint, or the beginning, to the end; leave the weights that are to be kept."""
    progress = read_progress(folder)
    unfreezing = [ProgressiveUnfreezing(stages)] if stages else []
    if progress.done:
        engines = [each.attach(model) for each in unfreezing]
        restore(folder, model, best)
        for engine in engines:
            engine.start(progress.epoch)
            engine.restore_best()
        if config.ema:
            model.optimizer.finalize_variable_values(model.trainable_variables)
        if best:
            best.restore(model)
        return
    logger = SmoothedMetricsLogger(csv=folder.history, plot=folder.curves)
    averaged = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if config.ema else []
    callbacks = [
        keras.callbacks.ProgbarLogger(),  # first, so that it shows the metrics without their smoothed doubles
        SetEpoch(training),
        logger,
        *averaged,  # what is validated, and what the next two remember, is the averaged weights
        *unfreezing,
        *([best] if best else []),
        *map(_back_to_training, averaged),  # before the checkpoint, whose weights are trained on
        # The history of an epoch is complete before its checkpoint is: nobody writes it a second time.
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logger.collect_late_logs()),
        Checkpoint(folder, progress, best),
    ]
    # `shuffle=False`: the folder has its own order per epoch; Keras would shuffle the batches once more, unseeded.
    runner.fit(
        model,
        training,
        validation_data=validation,
        epochs=config.epochs,
        initial_epoch=progress.epoch,
        callbacks=callbacks,
        class_weight=training.class_weight() if config.class_weight else None,
        shuffle=False,
    )
    if best:
        best.restore(model)


def _back_to_training(average: keras.callbacks.SwapEMAWeights) -> keras.callbacks.Callback:
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: average.on_epoch_begin(epoch))


def _monitor(config: TrainConfig, validation: ImageDataset | None) -> str | None:
    """What tells the best epoch; `None` where the last one is kept."""
    measured = validation is not None or not config.monitor.startswith(("val_", "smoothed_val_"))
    if config.patience and not measured:
        raise UsageError(
            f"`--patience` watches {config.monitor}, but there are no validation images. Give `--validation` or "
            "`--validation-split`, or `--monitor loss`."
        )
    return config.monitor if measured and (config.keep == "best" or config.patience) else None


def _with_interval(result: Mapping[str, float], images: int) -> dict[str, float]:
    """Metrics with the interval of the accuracy, where there is one."""
    if "accuracy" not in result:
        return dict(result)
    share = Estimate.of_share(round(result["accuracy"] * images), images)
    return {**result, "accuracy_low": share.low, "accuracy_high": share.high}


def _tell_what_was_read(training: ImageDataset, *others: ImageDataset | None) -> None:
    told: set[str] = set()
    for dataset in filter(None, (training, *others)):
        for line in _what_was_read(dataset):
            if line not in told:
                print(line, file=sys.stderr)
                told.add(line)


def _what_was_read(dataset: ImageDataset) -> Iterator[str]:
    if isinstance(dataset, ImageTable) and dataset.columns.found:
        yield f"Found in the table: {', '.join(dataset.columns.found)}"
    if dataset.left_out:
        yield f"Skipped in '{dataset.root}': {dataset.left_out}"
    if dataset.skipped:
        yield f"Left out in '{dataset.root}': {', '.join(map(str, dataset.skipped))}"
    if dataset.division is not None:
        yield f"For validation: {dataset.division}"


def _leaked(
    config: TrainConfig,
    model: keras.Model,
    stages: list[Stage],
    training: ImageDataset,
    validation: ImageDataset | None,
) -> NDArray[np.bool_]:
    """Which validation images are trained on; near ones too where the first stage trains on their features."""
    if validation is None:
        return np.zeros(0, bool)
    plain_first = not config.copies and (not stages or not stages[0].unfreeze)
    return leaked(training, validation, model, BottleneckCache(config.cache) if config.cache and plain_first else None)


def _begin(folder: RunFolder, record: RunRecord, *, resume: bool) -> RunState:
    """Write the record of a run, in place of one that is discarded or goes on; return its state."""
    state = folder.state if resume else None
    if state is None:
        folder.discard()
        state = RunState.begun
    else:
        before = folder.read()
        if before.class_names and (before.class_names, before.images) != (record.class_names, record.images):
            raise KerasxferError(
                f"`--resume` takes the images that `{folder.path}` was begun with. Received: {dict(record.images)} of "
                f"{', '.join(record.class_names)}, then {dict(before.images)} of {', '.join(before.class_names)}"
            )
        folder.sweep()
    record.write(folder.record)
    return state


@contextmanager
def _own_errors(*datasets: ImageDataset | None) -> Iterator[None]:
    """Raise what a data set has raised: TensorFlow puts an error of its own in its place."""
    try:
        yield
    except Exception:
        for dataset in datasets:
            if dataset is not None and dataset.failure is not None:
                raise dataset.failure from None
        raise


@contextmanager
def _nothing_left_of_a_false_start(folder: RunFolder) -> Iterator[None]:
    """Remove a run that ends by a mistake of the user's before its first epoch is over."""
    try:
        yield
    except KerasxferError:
        if not folder.checkpoint.is_file() and folder.state is RunState.begun:
            if folder.cache.is_dir():  # features that were computed stay, for the next try
                BottleneckCache(folder.cache, verbose=0).gc()
            folder.discard()
        raise


def plan_training(config: TrainConfig) -> dict[str, Any]:
    """Return what a run would do, stage by stage, without training.

    Args:
        config: A `TrainConfig`.

    Returns:
        Plans by title, each with `rows` and a table as `str()`: the stages, and where the cache would cut each.
    """
    training, validation = datasets(config)
    model, stages = compiled_model(config, training.class_names), schedule(config, _monitor(config, validation))
    plans: dict[str, Any] = {"Stages": plan_stages(stages, model)} if stages else {}
    if config.cache:
        cache = BottleneckCache(config.cache, copies=config.copies, verbose=0)
        plans["Cache"] = cache.plan(model, training, stages or None)
    return plans


def schedule(config: TrainConfig, monitor: str | None = None) -> list[Stage]:
    """Return the stages of a run; empty where only the head is trained.

    Args:
        config: A `TrainConfig`.
        monitor: What each stage ends by with the weights of its best epoch, unless it says otherwise itself. Defaults
            to `None`: each ends with those of its last one.
    """
    defaults: dict[str, Any] = {"patience": config.patience}
    if monitor:
        defaults |= {"monitor": monitor, "restore_best": config.keep == "best"}
    return [Stage(**defaults | stage) for stage in config.schedule]


def _record(
    config: TrainConfig, training: ImageDataset, validation: ImageDataset | None, test: ImageDataset | None
) -> RunRecord:
    images = {"training": len(training.paths), "validation": len(validation.paths) if validation else 0}
    return RunRecord(
        config,
        class_names=tuple(training.class_names),
        images=images | ({"test": len(test.paths)} if test else {}),
        weights_sha256=_sha256(config.weights) if config.weights and Path(config.weights).is_file() else None,
        backend=keras.backend.backend(),
        versions={"kerasxfer": __version__, "keras": keras.__version__, "python": sys.version.split()[0]},
        command=tuple(sys.argv),
    )


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
