"""What the manifest says about an exported model, gathered from the caller, the run and the model, in that order."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
from kerasxfer_serving import __version__
from kerasxfer_serving.image_io.golden import golden_hashes
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.manifest import Manifest

from kerasxfer.data.image_files import class_folders
from kerasxfer.export.errors import ExportError
from kerasxfer.export.graph import FEATURES, INPUT, OUTPUT
from kerasxfer.export.served import preprocessing_mode
from kerasxfer.export.source import Source

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
        source: the opened model.
        image_size: `(height, width)`, or `None` for the model's own.
        policy: or `None` for the run's.
        preprocessing: a mode or the name of an application, or `None`.

    Raises:
        ExportError: the size is not known, or not the model's.
    """
    own = source.image_size
    size = own if image_size is None else (int(image_size[0]), int(image_size[1]))
    if size is None:
        raise ExportError("`image_size` is needed: the model takes images of any size. Received: image_size=None")
    if source.fixed_size not in (None, size):
        raise ExportError(f"`image_size` must be the model's, {source.fixed_size}. Received: image_size={image_size}")
    mode = None if preprocessing is None else preprocessing_mode(preprocessing)
    return ImageInput(size, policy or source.policy, mode)


def describe(
    source: Source,
    entry: ImageInput,
    output: str,
    columns: int,
    class_names: Sequence[str] | None,
    labelled: str | Path | None,
    opset: int,
    features: bool,
) -> Manifest:
    """The manifest of the fp32 file, but for its parity.

    Args:
        source: the opened model.
        entry: its input.
        output: what the model's output is; logits are turned into probabilities inside the file.
        columns: number of the output's columns.
        class_names: or `None` for the run's, those of `labelled`, or numbered ones.
        labelled: folder of class folders, or `None`.
        opset: ONNX operator set.
        features: whether there is a second output.

    Raises:
        ExportError: the number of class names is not the model's.
    """
    classes = max(columns, 2)
    names = class_names or source.class_names or (class_folders(Path(labelled)) if labelled else None)
    names = tuple(names or (UNNAMED.format(number) for number in range(classes)))
    if len(names) != classes:
        raise ExportError(f"`class_names` must have {classes} names, one for each class. Received: {names!r:.200}")
    return Manifest(
        class_names=names,
        image_size=entry.image_size,
        policy=entry.policy,
        output=output if output != "logits" else "sigmoid" if columns == 1 else "softmax",
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


def _versions() -> dict[str, str]:
    import onnxruntime

    backend = keras.backend.backend()
    installed = {name: importlib.metadata.version(name) for name in (*_PACKAGES, backend)}
    return {"kerasxfer": __version__, "onnxruntime": onnxruntime.__version__, **installed}
