"""A model file against the Keras model it came from, on labelled images: `kerasxfer check`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.model.model_file import load_model_file
from kerasxfer_serving.runtime.session import Session
from numpy.typing import NDArray

from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.opening import opener
from kerasxfer.data.tables.columns import NOTHING_SAID, TableOptions
from kerasxfer.export.answers import BATCH, answers, open_file, own_answers, reference_model
from kerasxfer.export.errors import ExportError
from kerasxfer.export.outputs import Output, read_output
from kerasxfer.export.parity import Parity, compare_answers
from kerasxfer.export.runtimes import RuntimeCheck, judge, open_runtimes
from kerasxfer.export.source import Source, open_source
from kerasxfer.export.tf_process import workspace

Answer = Callable[[NDArray[np.uint8]], NDArray[Any]]


@dataclass(frozen=True)
class Checked:
    """The result of `check_file`.

    Args:
        parity: The comparison.
        failure: What breaks the gate, or `None`.
        device: Where the file ran.
        precision: Of the file.
        runtimes: The file in every precision that the device has, with its speed; the first is `parity`.
        tf32_difference: On CUDA, how far a probability moves with TF32 on, else `None`.
        same_source: Whether the Keras model is the very one that was exported.
    """

    parity: Parity
    failure: str | None
    device: str
    precision: str
    runtimes: tuple[RuntimeCheck, ...]
    tf32_difference: float | None
    same_source: bool

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


def check_file(
    path: str | Path,
    against: keras.Model | str | Path,
    data: str | Path,
    *,
    table: TableOptions = NOTHING_SAID,
    device: str = "cpu",
    modules: Iterable[str] = (),
    preprocess_input: str | None = None,
    safe_mode: bool = True,
) -> Checked:
    """Compare an exported file with its Keras model on every image of a labelled folder.

    Args:
        path: The exported file.
        against: The Keras model, as in `export_onnx`.
        data: Folder of class folders, or table of images and labels.
        table: What is said about `data`, where it is a table. Defaults to nothing.
        device: As of `kerasxfer_serving.Predictor`. On `"openvino"` the file is checked in float32 and, where the CPU
            has it, in bfloat16. Defaults to `"cpu"`.
        modules: As in `export_onnx`.
        preprocess_input: As in `export_onnx`.
        safe_mode: As in `export_onnx`.

    Returns:
        A `Checked`.

    Raises:
        ExportError: The file has no manifest, or the folder is not one of its classes.
    """
    file = load_model_file(path)
    manifest = file.manifest
    if manifest is None:
        raise ExportError(f"`{path}` has no manifest: only files that kerasxfer exported can be checked.")
    images = labelled_images(data, manifest, table)
    if device == "openvino":
        sessions = open_runtimes(file.data, ["openvino"], manifest.output_name)
    else:
        sessions = [open_file(file.data, device, output=manifest.output_name)]
    session = sessions[0]
    tf32 = _Tf32(file.data, session, manifest.output_name) if session.device == "cuda" else None
    with workspace() as folder:
        source = open_source(against, folder, modules=modules, preprocess_input=preprocess_input, safe_mode=safe_mode)
        parities = compare_on(
            images,
            reference_model(source),
            [tf32] if tf32 else [partial(answers, session) for session in sessions],
            probabilities=lambda outputs: _output(source, outputs, manifest).probabilities(outputs),
            manifest=manifest,
        )
    runtimes = judge(sessions, parities, manifest.precision)
    return Checked(
        parity=parities[0],
        failure=runtimes[0].failure,
        device=session.device,
        precision=manifest.precision,
        runtimes=runtimes,
        tf32_difference=tf32.difference if tf32 else None,
        same_source=manifest.source_sha256 == source.sha256,
    )


def _output(source: Source, outputs: NDArray[Any], exported_as: Manifest) -> Output:
    """What the model itself says that its outputs are; where it does not, what it was exported as."""
    multi_label = exported_as.is_multi_label
    own = read_output(source.model, source.loss, outputs, multi_label=multi_label)
    if not own.assumed:
        return own
    return read_output(source.model, source.loss, outputs, exported_as.output, multi_label=multi_label)


class _Tf32:
    """Answers without TF32, and keeps how far the answers with it are away."""

    def __init__(self, data: bytes, exact: Session, output: str) -> None:
        self.exact = exact
        self.rounded = open_file(data, exact.device, output=output, tf32=True)
        self.difference = 0.0

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        exact = answers(self.exact, images)
        self.difference = max(self.difference, float(np.abs(exact - answers(self.rounded, images)).max()))
        return exact


def labelled_images(path: str | Path, manifest: Manifest, table: TableOptions = NOTHING_SAID) -> ImageDataset:
    """The labelled images at a path in a fixed order, without the unreadable ones.

    Args:
        path: A folder of class folders, or a table.
        manifest: What the model says of its input and its classes, which the folders or labels must be.
        table: What is said about the table. Defaults to nothing.

    Raises:
        ExportError: The labels are not the classes, or there is no image that can be read.
    """
    try:
        return opener(path, table)(
            image_size=manifest.image_size,
            batch_size=BATCH,
            label_mode="multi_hot" if manifest.is_multi_label else "int",
            class_names=manifest.class_names,
            shuffle=False,
            policy=manifest.policy,
            on_error="skip",
        )
    except ValueError as error:
        raise ExportError(f"`{path}` cannot be checked on: {error}") from error


def compare_on(
    folder: ImageDataset,
    model: keras.Model,
    files: Sequence[Answer],
    *,
    probabilities: Callable[[NDArray[Any]], NDArray[Any]],
    manifest: Manifest,
) -> list[Parity]:
    """Ask the model and files about every image, a batch at a time.

    Args:
        folder: From `labelled_images`.
        model: The source, from `reference_model`.
        files: Each answers uint8 images with a file's probabilities.
        probabilities: Turns the model's outputs into probabilities.
        manifest: What the file says of itself.

    Returns:
        A `Parity` with both accuracies, or both mean average precisions, for each file.
    """
    expected: list[NDArray[Any]] = []
    received: list[list[NDArray[Any]]] = [[] for _ in files]
    for start in range(0, len(folder.paths), BATCH):
        images = folder.load(np.arange(start, min(start + BATCH, len(folder.paths))))
        expected.append(own_answers(model, images, manifest.preprocessing))
        for answer, parts in zip(files, received, strict=True):
            parts.append(answer(images))
    source, about = probabilities(np.concatenate(expected)), (folder.paths, folder.class_names, folder.labels)
    return [compare_answers(source, np.concatenate(parts), *about, manifest.thresholds) for parts in received]
