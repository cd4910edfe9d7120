"""`kerasxfer train` as a function: class folders in, a run folder out.

A run folder holds `model.keras`, `history.csv` (one row an epoch), `curves.png` and `config.json`: what is needed to
repeat the run, and what came of it.
"""

import dataclasses
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import keras
from kerasxfer_serving import __version__
from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.images import ImagePolicy

from kerasxfer.bottleneck.cache import BottleneckCache
from kerasxfer.callbacks import ProgressiveUnfreezing, SetEpoch, SmoothedMetricsLogger
from kerasxfer.data.image_folder import ImageFolder
from kerasxfer.layers import Augmentation, ClassifierHead
from kerasxfer.models import image_classifier
from kerasxfer.unfreezing import resolve
from kerasxfer.unfreezing.plan import plan as plan_stages
from kerasxfer.unfreezing.stages import Stage


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What a run is made of; its fields are the options of `kerasxfer train` and the keys of `config.json`.

    Args:
        data: folder of class folders to train on.
        validation: folder of class folders to validate on, or `None`.
        validation_split: fraction of `data` held out for validation where `validation` is `None`.
        backbone: name in `keras.applications`, or `"DemoVGG"`.
        backbone_output: name of the layer whose output is used instead of the backbone's own.
        backbone_args: further arguments of the application, e.g. `{"alpha": 0.75}`.
        weights: `"imagenet"`, a weights file, or `None` for random ones.
        image_size: (height, width) in pixels.
        policy: fields of `kerasxfer_serving.ImagePolicy`.
        head: pooling and hidden units, e.g. `"average"` or `"flatten-256"`.
        dropout: fraction dropped before the output.
        activation: `"softmax"`, or `"sigmoid"` for one unit and two classes.
        optimizer: name in `keras.optimizers`.
        learning_rate: of the head.
        epochs: of the head's training where `schedule` is empty, of the whole run otherwise.
        batch_size: pictures in a batch.
        augment: arguments of `kerasxfer.layers.Augmentation`; empty for none.
        schedule: stages of `kerasxfer.callbacks.ProgressiveUnfreezing` as plain dictionaries; empty for the head only.
        cache: folder of the `BottleneckCache`, or `None` to run every layer in every epoch.
        seed: of the weights, the split, the order and the augmentation.
    """

    data: str
    validation: str | None = None
    validation_split: float | None = None
    backbone: str = "VGG16"
    backbone_output: str | None = None
    backbone_args: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: str | None = "imagenet"
    image_size: tuple[int, int] = (150, 150)
    policy: dict[str, Any] = dataclasses.field(default_factory=lambda: ImagePolicy().to_dict())
    head: str = "average"
    dropout: float = 0.2
    activation: str = "softmax"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    epochs: int = 30
    batch_size: int = 32
    augment: dict[str, Any] = dataclasses.field(default_factory=dict)
    schedule: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    cache: str | None = None
    seed: int = 0


def train(config: TrainConfig, run: str | Path, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Train a classifier on class folders and leave a run folder.

    Args:
        config: a `TrainConfig`.
        run: folder to write; must be empty or missing unless `resume` or `overwrite` is set.
        resume: go on after the last finished epoch of an interrupted run with the same configuration.
        overwrite: discard what `run` holds.

    Returns:
        The contents of `config.json`: the configuration, what it ran on, and under `"result"` the metrics on the
        validation pictures.

    Raises:
        KerasxferError: `run` is not empty, or holds a run with another configuration.
    """
    run = Path(run)
    _check_run_folder(run, config, resume=resume, overwrite=overwrite)
    keras.utils.set_random_seed(config.seed)
    training, validation = datasets(config)
    model, stages = compiled_model(config, training.class_names), schedule(config)
    if stages:
        resolve(stages, model)  # what is wrong with a schedule shows before a run folder is made or discarded
    if overwrite and run.is_dir():
        shutil.rmtree(run)
    run.mkdir(parents=True, exist_ok=True)
    _write_json(run / "config.json", _plain(config))
    callbacks = [
        keras.callbacks.ProgbarLogger(),  # first, so that it shows the metrics without their smoothed doubles
        SetEpoch(training),
        SmoothedMetricsLogger(csv=run / "history.csv", plot=run / "curves.png"),
        *([ProgressiveUnfreezing(stages)] if stages else []),
        keras.callbacks.BackupAndRestore(run / "backup"),
    ]
    # What fits and evaluates: `keras.Model` itself, or the cache in its place.
    runner: Any = BottleneckCache(config.cache) if config.cache else keras.Model
    start = time.perf_counter()
    # `shuffle=False`: the folder has its own order per epoch; Keras would shuffle the batches once more, unseeded.
    runner.fit(model, training, validation_data=validation, epochs=config.epochs, callbacks=callbacks, shuffle=False)
    seconds = time.perf_counter() - start
    model.save(run / "model.keras")
    result = runner.evaluate(model, validation, return_dict=True) if validation else {}
    return _record(run, config, training, validation, seconds=seconds, result=result)


def plan(config: TrainConfig) -> dict[str, Any]:
    """Return what a run would do, stage by stage, without training.

    Args:
        config: a `TrainConfig`.

    Returns:
        Plans by title, each with `rows` and a table as `str()`: the stages, and where the cache would cut each.
    """
    training, _ = datasets(config)
    model, stages = compiled_model(config, training.class_names), schedule(config)
    plans: dict[str, Any] = {"Stages": plan_stages(stages, model)} if stages else {}
    if config.cache:
        plans["Cache"] = BottleneckCache(config.cache, verbose=0).plan(model, training, stages or None)
    return plans


def datasets(config: TrainConfig) -> tuple[ImageFolder, ImageFolder | None]:
    """Open the training and the validation pictures of a run."""
    if config.validation and config.validation_split:
        raise UsageError("`--validation` and `--validation-split` exclude each other; give one.")
    common: dict[str, Any] = {
        "image_size": config.image_size,
        "batch_size": config.batch_size,
        "label_mode": "binary" if config.activation == "sigmoid" else "int",
        "seed": config.seed,
        "policy": ImagePolicy(**config.policy),
    }
    split = config.validation_split
    training = ImageFolder(
        config.data,
        validation_split=split,
        subset="training" if split else None,
        augmentation=_augmentation(config),
        **common,
    )
    if split:
        return training, ImageFolder(config.data, validation_split=split, subset="validation", shuffle=False, **common)
    if config.validation is None:
        return training, None
    validation = ImageFolder(config.validation, shuffle=False, **common)
    if validation.class_names != training.class_names:
        raise KerasxferError(
            f"`{config.validation}` must hold the same class folders as `{config.data}`. "
            f"Received: {validation.class_names} beside {training.class_names}"
        )
    return training, validation


def compiled_model(config: TrainConfig, class_names: list[str]) -> keras.Model:
    """Build and compile the classifier of a run."""
    # Seeded: on PyTorch, a Dropout without a seed draws from a global generator, which no checkpoint holds.
    options: dict[str, Any] = {"dropout": config.dropout, "activation": config.activation, "seed": config.seed}
    model = image_classifier(
        config.backbone,
        class_names,
        config.image_size,
        weights=config.weights,
        backbone_output=config.backbone_output,
        backbone_kwargs=config.backbone_args,
        head=ClassifierHead.from_spec(config.head, len(class_names), name="head", **options),
    )
    optimizer = keras.optimizers.get(
        {"class_name": config.optimizer, "config": {"learning_rate": config.learning_rate}}
    )
    loss = "binary_crossentropy" if config.activation == "sigmoid" else "sparse_categorical_crossentropy"
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    return model


def schedule(config: TrainConfig) -> list[Stage]:
    """Return the stages of a run; empty where only the head is trained."""
    return [Stage(**stage) for stage in config.schedule]


def _augmentation(config: TrainConfig) -> Augmentation | None:
    return Augmentation(**config.augment, seed=config.seed) if config.augment else None


def _check_run_folder(run: Path, config: TrainConfig, *, resume: bool, overwrite: bool) -> None:
    """Refuse what would lose another run or mix it into this one."""
    occupied = run.is_dir() and any(run.iterdir())
    is_run = (run / "config.json").is_file()
    if occupied and not is_run:
        raise KerasxferError(
            f"`{run}` must be empty, missing or a run folder: it holds no config.json. Choose another `--out`."
        )
    if occupied and resume and not overwrite:
        _check_same_run(run, _plain(config))
    elif occupied and not overwrite:
        raise KerasxferError(
            f"`{run}` holds a run. Go on with `--resume`, discard it with `--overwrite`, or choose another `--out`."
        )


def _check_same_run(run: Path, wanted: dict[str, Any]) -> None:
    if (run / "model.keras").is_file():
        raise KerasxferError(
            f"`{run}` is finished: model.keras is there. Discard it with `--overwrite` to train again."
        )
    before = json.loads((run / "config.json").read_text(encoding="utf-8"))
    changed = [f"{key} {before.get(key)!r} → {value!r}" for key, value in wanted.items() if before.get(key) != value]
    if changed:
        raise KerasxferError(
            f"`--resume` takes the options that `{run}` was started with. Received: {', '.join(changed)}"
        )


def _record(
    run: Path, config: TrainConfig, training: ImageFolder, validation: ImageFolder | None, **outcome: Any
) -> dict[str, Any]:
    """Write `config.json`: the configuration, what it ran on, and what came of it."""
    record = {
        **_plain(config),
        "class_names": list(training.class_names),
        "images": {"training": len(training.paths), "validation": len(validation.paths) if validation else 0},
        "weights_sha256": _sha256(config.weights) if config.weights and Path(config.weights).is_file() else None,
        "backend": keras.backend.backend(),
        "versions": {"kerasxfer": __version__, "keras": keras.__version__, "python": sys.version.split()[0]},
        "command": sys.argv,
        **outcome,
    }
    _write_json(run / "config.json", record)
    return record


def _plain(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as JSON gives it back: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def _write_json(path: Path, data: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
