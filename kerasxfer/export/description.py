"""What the manifest says about an exported model, gathered from the caller, the run and the model, in that order."""

import importlib.metadata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import keras
from kerasxfer_serving import __version__
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.golden import golden_hashes
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.class_names import ClassNames, normalise_class_names
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.model.task import MULTI_LABEL, SINGLE_LABEL

from kerasxfer.data.image_files import class_folders
from kerasxfer.data.tables.columns import NOTHING_SAID, TableOptions
from kerasxfer.data.tables.rows import read_rows
from kerasxfer.data.tables.source import is_table
from kerasxfer.export.errors import ExportArgumentError, ExportError
from kerasxfer.export.graph import FEATURES, INPUT, OUTPUT
from kerasxfer.export.served import preprocessing_mode
from kerasxfer.export.source import Source
from kerasxfer.multi_label.thresholds import Thresholds, resolve_thresholds

UNNAMED = "class_{}"

_PACKAGES = ("keras", "tensorflow", "tf2onnx", "onnx", "numpy", "pillow")


@dataclass(frozen=True)
class ImageInput:
    """How an image becomes the model's input: size, decoding and the `Preprocess` mode in front, or `None`."""

    image_size: tuple[int, int]
    policy: ImagePolicy
    preprocessing: str | None


def image_input(
    source: Source, image_size: tuple[int, int] | None, policy: ImagePolicy | None, preprocessing: str | None
) -> ImageInput:
    """Decide the input.

    Args:
        source: The opened model.
        image_size: `(height, width)`, or `None` for the model's own.
        policy: Or `None` for the run's.
        preprocessing: A mode or the name of an application, or `None`.

    Raises:
        ExportError: The size is not known, or not the model's.
    """
    own = source.image_size
    size = own if image_size is None else (int(image_size[0]), int(image_size[1]))
    if size is None:
        raise ExportError("`image_size` is needed: the model takes images of any size. Received: image_size=None")
    if source.fixed_size not in (None, size):
        raise ExportError(f"`image_size` must be the model's, {source.fixed_size}. Received: image_size={image_size}")
    mode = None if preprocessing is None else preprocessing_mode(preprocessing)
    return ImageInput(size, policy or source.policy, mode)


def make_manifest(
    source: Source,
    entry: ImageInput,
    *,
    output: str,
    multi_label: bool = False,
    thresholds: Thresholds | None = None,
    columns: int,
    class_names: ClassNames | None,
    labelled: Iterable[str | Path | None],
    table: TableOptions = NOTHING_SAID,
    opset: int,
    features: bool,
) -> Manifest:
    """The manifest of the fp32 file, but for its parity.

    Args:
        source: The opened model.
        entry: Its input.
        output: `"softmax"` or `"sigmoid"`: what the file gives.
        multi_label: Whether any number of classes may fit an image. Defaults to `False`.
        thresholds: The probability from which each fits. Defaults to `None`, those that the run chose.
        columns: Number of the output's columns.
        class_names: In any form that names come in, or `None` for those of the model, the run, the first of `labelled`
            with as many classes, or numbered ones.
        labelled: Folders that may hold class folders, or tables.
        table: What is said about the tables. Defaults to nothing.
        opset: ONNX operator set.
        features: Whether there is a second output.

    Raises:
        ExportError: If the number of class names is not the model's.
    """
    if multi_label and columns < 2:
        raise ExportError("`multi_label=True` needs a column for each of two or more classes. Received: one column.")
    if thresholds is not None and not multi_label:
        raise ExportArgumentError("`thresholds` are for multi-label models: pass `multi_label=True`.")
    classes = max(columns, 2)
    given = source.class_names if class_names is None else normalise_class_names(class_names)
    names = (
        given
        or _names_of_images(labelled, classes, table, multi_hot=multi_label)
        or [UNNAMED.format(number) for number in range(classes)]
    )
    if len(names) != classes:
        raise ExportError(f"`class_names` must have {classes} names, one for each class. Received: {names!r:.200}")
    return Manifest(
        class_names=tuple(names),
        image_size=entry.image_size,
        policy=entry.policy,
        output=output,
        task=MULTI_LABEL if multi_label else SINGLE_LABEL,
        thresholds=resolve_thresholds(thresholds, source.thresholds, names) if multi_label else (),
        input_name=INPUT,
        output_name=OUTPUT,
        features_name=FEATURES if features else None,
        opset=opset,
        backbone=source.record.config.backbone if source.record else None,
        preprocessing=entry.preprocessing,
        source_sha256=source.sha256,
        source_backend=keras.backend.backend(),
        versions=_versions(),
        golden=golden_hashes(entry.image_size, entry.policy),
    )


def _names_of_images(
    places: Iterable[str | Path | None], classes: int, table: TableOptions, *, multi_hot: bool
) -> Sequence[str] | None:
    """The names of the classes in the first folder or table that has as many."""
    for place in places:
        if not place:
            continue
        found: list[str] = []
        if is_table(place):
            with suppress(UsageError):  # one without labels
                found = read_rows(place, table, multi_hot=multi_hot, may_miss=True)[0].class_names
        elif Path(place).is_dir():
            found = list(class_folders(Path(place)))
        if len(found) == classes:
            return found
    return None


def _versions() -> dict[str, str]:
    import onnxruntime

    backend = keras.backend.backend()
    installed = {name: importlib.metadata.version(name) for name in (*_PACKAGES, backend)}
    return {"kerasxfer": __version__, "onnxruntime": onnxruntime.__version__, **installed}
