"""From a Keras model to a verified ONNX file: the pipeline of `kerasxfer export`."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import keras
import onnx
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.class_names import ClassNames
from kerasxfer_serving.model.manifest import PRECISIONS, Manifest
from kerasxfer_serving.model.model_file import ModelFile, load_model_file
from kerasxfer_serving.model.task import MULTI_LABEL

from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.tables.columns import NOTHING_SAID, TableOptions
from kerasxfer.export.check import labelled_images
from kerasxfer.export.description import UNNAMED, image_input, make_manifest
from kerasxfer.export.errors import ExportArgumentError, ExportError
from kerasxfer.export.graph import tidy, with_manifest
from kerasxfer.export.outputs import OUTPUT_KINDS
from kerasxfer.export.precision import to_fp16, to_int8
from kerasxfer.export.proof import Proof, Samples, choose_samples, open_converted
from kerasxfer.export.report import Exported, Steps
from kerasxfer.export.runtimes import DEVICES, RuntimeCheck, fp32_rates, judge, notes, open_runtimes
from kerasxfer.export.served import needs_preparation
from kerasxfer.export.source import Source, open_source
from kerasxfer.export.tf_process import OPSETS, convert, require_converter, workspace
from kerasxfer.multi_label.thresholds import Thresholds

TARGETS = ("cpu", "gpu")

_CALIBRATION_IMAGES = 64  # 16 to 256 give the same accuracy: benchmarks/int8.py
_UNLABELLED_IMAGES = 256


def export_onnx(
    model_or_path: keras.Model | str | Path,
    path: str | Path,
    *,
    precision: str | None = None,
    target: str = "cpu",
    opset: int = 15,
    class_names: ClassNames | None = None,
    image_size: tuple[int, int] | None = None,
    policy: ImagePolicy | None = None,
    preprocessing: str | None = None,
    output: str | None = None,
    multi_label: bool = False,
    thresholds: Thresholds | None = None,
    features: bool = False,
    samples: str | Path | None = None,
    calibration: str | Path | None = None,
    check: str | Path | None = None,
    table: TableOptions = NOTHING_SAID,
    runtimes: Sequence[str] = (),
    modules: Iterable[str] = (),
    preprocess_input: str | None = None,
    safe_mode: bool = True,
    verbose: bool = True,
) -> Exported:
    """Export an image classifier to one self-contained ONNX file, verified against the model itself.

    The file takes uint8 pixels `[batch, height, width, 3]` and outputs probabilities `[batch, classes]`, or one column
    for a sigmoid unit. Whatever the backend, TensorFlow converts the model in a separate process, and the file's
    answers are compared with those of the model on its own backend. If the comparison fails, no file is written.

    Args:
        model_or_path: A `keras.Model`, a run folder, a `.keras` or `.h5` file or, on TensorFlow and with
            `safe_mode=False`, a SavedModel folder.
        path: The file to write.
        precision: `"fp32"`, `"fp16"` or `"int8"`. Defaults to `None`, the target's.
        target: `"cpu"`, or `"gpu"` for `"fp16"` if the comparison passes, else `"fp32"`. Defaults to `"cpu"`.
        opset: ONNX opset version, 13 to 18. Defaults to `15`, the last one that pools in one operator.
        class_names: The classes: a sequence, an array, or a mapping from or to indices. Defaults to the model's own,
            else the run's, else those of the labelled folder.
        image_size: `(height, width)`. Defaults to the model's input.
        policy: How images are decoded and resized. Defaults to the run's, else `ImagePolicy()`.
        preprocessing: Normalisation to add in front of a model that expects normalised pixels: a model or module of
            `keras.applications` (`"vgg16"`, `"inception_v3"`) or a mode of `kerasxfer.layers.Preprocess`
            (`"rescale"`). Defaults to `None`: the model takes pixels in 0–255.
        output: What the outputs are: `"softmax"` or `"sigmoid"`, which is applied to a model that outputs scores, or
            `"logits"`, scores whose kind follows from the compiled loss. Defaults to `None`: inferred from the model's
            last activation, else from its loss, else from its values, with a note.
        multi_label: Whether images have any number of labels, with one sigmoid per class. Defaults to `False`: what the
            model's `ClassifierHead` or its run says.
        thresholds: Probability thresholds of a multi-label model: one for all, one per class in order, or some by name
            (`{"cat": 0.3}`). Defaults to `None`: those that the run chose on its validation images, else 0.5.
        features: Whether to output the pooled features as well. Defaults to `False`.
        samples: Folder or table of images to compare on. Defaults to `check`, `calibration` or synthetic images.
        calibration: Folder of images for int8, with or without class folders, or a table.
        check: Folder or table of labelled images, to compare answers on all of them. Defaults to `None`; for int8, to
            `calibration` if it has the classes.
        table: How to read `samples`, `calibration` and `check` if they are tables. Defaults to no options.
        runtimes: Runtimes to check and time the file in, on the labelled images: `"onnxruntime"` and `"openvino"`, the
            latter also in bfloat16 if the CPU supports it. Failed gates are reported and recorded in the manifest.
            Defaults to `()`.
        modules: Names or `.py` files of modules that define custom layers of the file.
        preprocess_input: The application whose `preprocess_input` a `Lambda` layer of the file calls (`"vgg16"`), which
            the file does not store. Defaults to `None`.
        safe_mode: Whether to refuse code inside the file: `Lambda` layers, SavedModels. Defaults to `True`.
        verbose: Whether to report each step on stderr. Defaults to `True`.

    Returns:
        An `Exported`.

    Raises:
        ExportError: If the model cannot be exported, or the file's answers differ from the model's.
        ValueError: If an argument is out of its range.

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
    _validate(precision, target, opset, output, calibration)
    if unknown := sorted(set(runtimes) - set(DEVICES)):
        raise ExportArgumentError(f"`runtimes` must be of {tuple(DEVICES)}. Received: {unknown}")
    require_converter()
    steps = Steps(verbose)
    with workspace() as folder:
        with steps("Open the model"):
            source = open_source(
                model_or_path, folder, modules=modules, preprocess_input=preprocess_input, safe_mode=safe_mode
            )
            entry = image_input(source, image_size, policy, preprocessing)
        with steps(f"Ask the model, on {keras.backend.backend()}"):
            multi_label = multi_label or source.task == MULTI_LABEL
            proof = Proof.ask(source, entry, samples or check or calibration, output, table, multi_label=multi_label)
            manifest = make_manifest(
                source,
                entry,
                output=proof.output.activation,
                multi_label=multi_label,
                thresholds=thresholds,
                columns=proof.columns,
                class_names=class_names,
                labelled=(check, calibration),
                table=table,
                opset=opset,
                features=features,
            )
            labelled = _labelled(check, calibration, manifest, table)
            calibrating = _calibrating(calibration, manifest, table)
            if runtimes and labelled is None:
                raise ExportArgumentError(
                    "`runtimes` are checked on labelled images: give `check=`, a labelled folder."
                )
        with steps("Convert, on tensorflow"):
            proto = tidy(convert(source, folder, entry, proof.output, opset), features=features)
        with steps("Compare"):
            parity, fp32 = {"fp32": proof.compare(proto, manifest)}, proto
        for note in (*_notes(source, manifest, proof, thresholds), *proof.notes()):
            steps.note(note)
        wanted = precision or ("fp16" if target == "gpu" else "fp32")
        if wanted != "fp32":
            with steps(f"Lower to {wanted}"):
                lowered = _lower(proto, manifest, wanted, calibrating, folder)
                try:
                    parity[wanted] = proof.compare(*lowered)
                    proto, manifest = lowered
                except ExportError as error:
                    if precision:
                        raise
                    steps.note(f"The file computes in fp32 because fp16 was tried and failed: {error}")
        if target == "gpu" and not precision and manifest.precision == "fp16":
            steps.note(
                "The file computes in fp16 because the target is a GPU: use `precision='fp32'` for full precision."
            )
        checked, checks = None, tuple[RuntimeCheck, ...]()
        if labelled is not None:
            with steps("Check on the labelled images"):
                sessions = open_runtimes(proto.SerializeToString(), runtimes)
                checked, others = proof.check(proto, manifest, labelled, sessions)
                rates = fp32_rates(fp32.SerializeToString(), runtimes) if manifest.precision != "fp32" else None
                checks = judge(sessions, others, manifest.precision, rates)
            for note in notes(checks, manifest.precision):
                steps.note(note)
        elif calibrating is not None:
            with steps("Check on the images of the calibration"):
                checked = proof.check_unlabelled(proto, manifest, calibrating)
            steps.note("The calibration has no class folders of the model, so no accuracy was measured: give `check=`.")
    with steps("Write"):
        figures = parity if checked is None else {**parity, "check": checked}
        manifest = replace(
            manifest,
            parity={name: comparison.summary() for name, comparison in figures.items()},
            runtimes=[check.summary() for check in checks],
        )
        written = _write(with_manifest(proto, manifest), Path(path))
    return Exported(written, parity, checked, checks, steps.seconds, tuple(steps.notes))


def _labelled(
    check: str | Path | None, calibration: str | Path | None, manifest: Manifest, table: TableOptions
) -> ImageDataset | None:
    """The labelled images to check on: `check`, which must hold the classes, or `calibration` where it does."""
    if check is not None:
        return labelled_images(check, manifest, table)
    if calibration is not None:
        with suppress(ExportError):
            return labelled_images(calibration, manifest, table)
    return None


def _calibrating(calibration: str | Path | None, manifest: Manifest, table: TableOptions) -> Samples | None:
    if calibration is None:
        return None
    return choose_samples(calibration, _UNLABELLED_IMAGES, manifest.image_size, manifest.policy, table=table)


def _notes(source: Source, manifest: Manifest, proof: Proof, thresholds: Thresholds | None) -> Iterator[str]:
    if manifest.class_names[0] == UNNAMED.format(0):
        yield "The classes have no names: give them with `class_names=` (`--classes`)."
    if needs_preparation(source.model):
        yield "The model computes in half precision. It was compared with, and exported as, its float32 twin."
    if manifest.is_multi_label and thresholds is None and not source.thresholds:
        yield "Every label is said to fit from a probability of 0.5: give others with `thresholds=` (`--threshold`)."
    if source.task is None and not manifest.is_multi_label and manifest.output == "sigmoid" and proof.columns > 1:
        yield (
            "The model has a sigmoid for each class, and its answer is the most probable of them. Where any number of "
            "classes may fit an image, say `multi_label=True` (`--multi-label`)."
        )


def _validate(
    precision: str | None, target: str, opset: int, output: str | None, calibration: str | Path | None
) -> None:
    if precision not in (None, *PRECISIONS):
        raise ExportArgumentError(f"`precision` must be one of {PRECISIONS}. Received: precision={precision!r}")
    if target not in TARGETS:
        raise ExportArgumentError(f"`target` must be one of {TARGETS}. Received: target={target!r}")
    if opset not in OPSETS:
        raise ExportArgumentError(f"`opset` must be {OPSETS[0]} to {OPSETS[-1]}. Received: opset={opset!r}")
    if output not in (None, *OUTPUT_KINDS):
        raise ExportArgumentError(f"`output` must be one of {OUTPUT_KINDS} or None. Received: output={output!r}")
    if precision == "int8" and calibration is None:
        raise ExportArgumentError(
            "`precision='int8'` needs `calibration=`, a folder of images like those the model will see."
        )


def _lower(
    proto: onnx.ModelProto, manifest: Manifest, precision: str, calibrating: Samples | None, folder: Path
) -> tuple[onnx.ModelProto, Manifest]:
    if precision == "fp16" or calibrating is None:
        return to_fp16(proto), replace(manifest, precision=precision)
    images = calibrating.images[:_CALIBRATION_IMAGES]
    record = {"pictures": len(images), "method": "minmax", "format": "QDQ, u8 activations, s8 weights"}
    lowered = to_int8(proto, images, folder)
    return lowered, replace(manifest, precision=precision, calibration=record)


def _write(data: bytes, path: Path) -> ModelFile:
    """Write beside `path`, read back as a stranger's file, and move into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        written = load_model_file(temporary)
        open_converted(written.proto)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return replace(written, path=path)
