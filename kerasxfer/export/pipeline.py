"""From a Keras model to a proved ONNX file: the pipeline of `kerasxfer export`."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import onnx
from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.manifest import PRECISIONS, Manifest
from kerasxfer_serving.model.model_file import ModelFile, load_model_file
from kerasxfer_serving.runtime.session import Session
from numpy.typing import NDArray

from kerasxfer.export.check import compare_on, labelled_images
from kerasxfer.export.description import UNNAMED, ImageInput, describe, image_input
from kerasxfer.export.errors import ExportArgumentError, ExportError
from kerasxfer.export.file_answers import answers, answers_in_every_batch, open_file
from kerasxfer.export.graph import tidy, with_manifest
from kerasxfer.export.outputs import OUTPUT_KINDS, Output, read_output
from kerasxfer.export.parity import GATES, Parity, compare
from kerasxfer.export.precision import to_fp16, to_int8
from kerasxfer.export.reference import own_answers, reference_model
from kerasxfer.export.report import Exported, Steps
from kerasxfer.export.samples import Samples, choose_samples
from kerasxfer.export.served import needs_preparation
from kerasxfer.export.source import Source, open_source
from kerasxfer.export.tf_process import OPSETS, convert, require_converter
from kerasxfer.export.workspace import workspace

_PARITY_IMAGES = 32
_CALIBRATION_IMAGES = 256
_TELLS_APART = 1e-3


def export_onnx(
    model_or_path: keras.Model | str | Path,
    path: str | Path,
    *,
    precision: str = "fp32",
    opset: int = 15,
    class_names: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    policy: ImagePolicy | None = None,
    preprocessing: str | None = None,
    output: str | None = None,
    features: bool = False,
    samples: str | Path | None = None,
    calibration: str | Path | None = None,
    check: str | Path | None = None,
    modules: Iterable[str] = (),
    safe_mode: bool = True,
    verbose: bool = True,
) -> Exported:
    """Export an image classifier to one self-contained ONNX file, proved against the model itself.

    The file takes uint8 pixels `[batch, height, width, 3]` and gives probabilities `[batch, classes]`, or one column
    for a sigmoid unit. Whatever the backend, TensorFlow converts it in a process of its own, and the answers are
    compared with those of the model on its own backend. Where the comparison fails, no file is written.

    Args:
        model_or_path: a `keras.Model`, a run folder, a `.keras` or `.h5` file or, on TensorFlow, a SavedModel folder.
        path: the file to write.
        precision: `"fp32"`, `"fp16"` or `"int8"`. Defaults to `"fp32"`.
        opset: ONNX operator set, 13 to 18. Defaults to `15`, the last one that pools in one operator.
        class_names: the classes. Defaults to the run's, else those of the labelled folder.
        image_size: `(height, width)`. Defaults to the model's input.
        policy: how images are decoded and resized. Defaults to the run's, else `ImagePolicy()`.
        preprocessing: normalisation to put before a model that expects normalised pixels: a model or module of
            `keras.applications` (`"vgg16"`, `"inception_v3"`) or a mode of `kerasxfer.layers.Preprocess`
            (`"rescale"`). Defaults to `None`: the model takes pixels in 0–255.
        output: what the model's output is: `"softmax"`, `"sigmoid"` or `"logits"`. Defaults to what its last layer
            says, else to what its outputs look like.
        features: whether to give the pooled features as a second output. Defaults to `False`.
        samples: folder of images to compare on. Defaults to `check`, `calibration` or drawn images.
        calibration: folder of images for int8.
        check: folder of labelled images, all of which are compared. Defaults to `None`, for int8 to `calibration`.
        modules: names or `.py` files of modules with custom layers that Keras must know to read the file.
        safe_mode: refuse Python code (`Lambda` layers) inside the file. Defaults to `True`.
        verbose: whether to report each step on stderr. Defaults to `True`.

    Returns:
        An `Exported`.

    Raises:
        ExportError: the model cannot be exported, or the file's answers are not the model's.
        ValueError: an argument is out of its range.

    Example:

    ```python
    model = keras.Sequential([
        keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3),
        keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, activation="softmax"),
    ])
    exported = kerasxfer.export_onnx(model, "model.onnx", class_names=("cats", "dogs"))
    assert exported.manifest.image_size == (32, 32)
    ```
    """
    check = calibration if check is None and precision == "int8" else check
    _validate(precision, opset, output, calibration)
    require_converter()
    steps = Steps(verbose)
    with workspace() as folder:
        with steps("Open the model"):
            source = open_source(model_or_path, folder, modules=modules, safe_mode=safe_mode)
            entry = image_input(source, image_size, policy, preprocessing)
        with steps(f"Ask the model, on {keras.backend.backend()}"):
            asked = _ask(source, entry, samples or check or calibration, output)
        activation = asked.output.activation
        manifest = describe(source, entry, activation, asked.columns, class_names, check, opset, features)
        with steps("Convert, on tensorflow"):
            apply = activation if asked.output.raw else None
            proto = convert(source, folder, entry, activation=apply, opset=opset)
            tidy(proto, features=features)
    with steps("Compare"):
        parity = {"fp32": _compare(proto, manifest, asked)}
    for note in _notes(source, manifest, asked.output, parity["fp32"]):
        steps.note(note)
    if precision != "fp32":
        with steps(f"Lower to {precision}"):
            proto, manifest = _lower(proto, manifest, precision, calibration)
            parity[precision] = _compare(proto, manifest, asked)
    checked = None
    if check is not None:
        with steps("Check on the labelled images"):
            checked = _check(proto, manifest, asked, check)
    with steps("Write"):
        figures = parity if checked is None else {**parity, "check": checked}
        manifest = replace(manifest, parity={name: comparison.summary() for name, comparison in figures.items()})
        written = _write(with_manifest(proto, manifest), Path(path))
    return Exported(written, parity, checked, steps.seconds, tuple(steps.notes))


@dataclass(frozen=True)
class _Asked:
    """The model and what it says to a few images: what the file must say too."""

    model: keras.Model
    output: Output
    samples: Samples
    probabilities: NDArray[np.float32]

    @property
    def columns(self) -> int:
        return int(self.probabilities.shape[1])


def _ask(source: Source, entry: ImageInput, folder: str | Path | None, said: str | None) -> _Asked:
    samples = choose_samples(folder, _PARITY_IMAGES, entry.image_size, entry.policy)
    model = reference_model(source)
    outputs = own_answers(model, samples.images, entry.preprocessing)
    output = read_output(source.model, source.loss, outputs, said)
    return _Asked(model, output, samples, output.probabilities(outputs))


def _notes(source: Source, manifest: Manifest, output: Output, parity: Parity) -> Iterator[str]:
    if output.inferred:
        yield output.inferred
    if manifest.class_names[0] == UNNAMED.format(0):
        yield "The classes have no names: give them with `class_names=` (`--classes`)."
    if needs_preparation(source.model):
        yield "The model computes in half precision. It was compared with, and exported as, its float32 twin."
    if parity.spread < _TELLS_APART:
        yield "The model answers nearly the same for all images, so the comparison proves little: use `samples=`."


def _validate(precision: str, opset: int, output: str | None, calibration: str | Path | None) -> None:
    if precision not in PRECISIONS:
        raise ExportArgumentError(f"`precision` must be one of {PRECISIONS}. Received: precision={precision!r}")
    if opset not in OPSETS:
        raise ExportArgumentError(f"`opset` must be {OPSETS[0]} to {OPSETS[-1]}. Received: opset={opset!r}")
    if output not in (None, *OUTPUT_KINDS):
        raise ExportArgumentError(f"`output` must be one of {OUTPUT_KINDS} or None. Received: output={output!r}")
    if precision == "int8" and calibration is None:
        raise ExportArgumentError("`precision='int8'` needs `calibration=`, a folder of images like those it will see.")


def _compare(proto: onnx.ModelProto, manifest: Manifest, asked: _Asked) -> Parity:
    """The parity on a few images, in every kind of batch; an error where the gate fails."""
    rows, received = answers_in_every_batch(_session(proto.SerializeToString()), asked.samples.images)
    names = [asked.samples.names[row] for row in rows]
    parity = compare(asked.probabilities[rows], received, names, manifest.class_names)
    return _passed(parity, manifest.precision)


def _lower(
    proto: onnx.ModelProto, manifest: Manifest, precision: str, calibration: str | Path | None
) -> tuple[onnx.ModelProto, Manifest]:
    if precision == "fp16":
        return to_fp16(proto), replace(manifest, precision=precision)
    images = choose_samples(calibration, _CALIBRATION_IMAGES, manifest.image_size, manifest.policy)
    record = {"pictures": len(images.names), "method": "minmax", "format": "QDQ, u8 activations, s8 weights"}
    return to_int8(proto, images.images), replace(manifest, precision=precision, calibration=record)


def _check(proto: onnx.ModelProto, manifest: Manifest, asked: _Asked, folder: str | Path) -> Parity:
    session = _session(proto.SerializeToString())
    parity = compare_on(
        labelled_images(folder, manifest.image_size, manifest.policy, manifest.class_names),
        asked.model,
        lambda images: answers(session, images),
        probabilities=asked.output.probabilities,
        preprocessing=manifest.preprocessing,
    )
    return _passed(parity, manifest.precision)


def _session(data: bytes) -> Session:
    """A converter writes down operators that ONNX does not have, so nothing is done before ONNX Runtime takes it."""
    try:
        return open_file(data)
    except ModelError as error:
        raise ExportError(f"The converted file does not run. {error}") from error


def _passed(parity: Parity, precision: str) -> Parity:
    if failure := parity.failure(GATES[precision]):
        raise ExportError(f"The {precision} file does not give the model's answers; nothing was written. {failure}")
    return parity


def _write(data: bytes, path: Path) -> ModelFile:
    """Write beside `path`, read back as a stranger's file, and move into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        written = load_model_file(temporary)
        _session(written.data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return replace(written, path=path)
