"""A model file against the Keras model it came from, on labelled images: `kerasxfer check`."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.model_file import load_model_file
from kerasxfer_serving.runtime.session import Session
from numpy.typing import NDArray

from kerasxfer.data.image_folder import ImageFolder
from kerasxfer.export.errors import ExportError
from kerasxfer.export.file_answers import BATCH, answers, open_file
from kerasxfer.export.parity import CUDA_GATES, GATES, Parity, compare, kind_of, probabilities_of
from kerasxfer.export.served import output_kind
from kerasxfer.export.source import open_source, own_answers, reference_model

Answer = Callable[[NDArray[np.uint8]], NDArray[Any]]


@dataclass(frozen=True)
class Checked:
    """The result of `check_file`.

    Args:
        parity: the comparison.
        failure: what breaks the gate, or `None`.
        device: where the file ran.
        tf32_difference: on CUDA, how far a probability moves with TF32 on, else `None`.
        same_source: whether the Keras model is the very one that was exported.
    """

    parity: Parity
    failure: str | None
    device: str
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
    device: str = "cpu",
    modules: Iterable[str] = (),
    safe_mode: bool = True,
) -> Checked:
    """Compare an exported file with its Keras model on every image of a labelled folder.

    Args:
        path: the exported file.
        against: the Keras model, as in `export_onnx`.
        data: folder of class folders.
        device: `"cpu"`, `"cuda"`, `"tensorrt"` or `"auto"`. Defaults to `"cpu"`.
        modules: as in `export_onnx`.
        safe_mode: as in `export_onnx`.

    Returns:
        A `Checked`.

    Raises:
        ExportError: the file has no manifest, or the folder is not one of its classes.
    """
    file = load_model_file(path)
    manifest = file.manifest
    if manifest is None:
        raise ExportError(f"`{path}` has no manifest: only files that kerasxfer exported can be checked.")
    source = open_source(against, modules=modules, safe_mode=safe_mode)
    images = labelled_images(data, manifest.image_size, manifest.policy, manifest.class_names)
    session = open_file(file.data, device, output=manifest.output_name)
    tf32 = _Tf32(file.data, session, manifest.output_name) if session.device == "cuda" else None
    with tempfile.TemporaryDirectory(prefix="kerasxfer-check-") as folder:
        model, _ = reference_model(source, Path(folder))
        file_answer = tf32 or (lambda images: answers(session, images))
        parity = compare_on(images, model, file_answer, preprocessing=manifest.preprocessing)
    gate = (GATES if session.device == "cpu" else CUDA_GATES)[manifest.precision]
    return Checked(
        parity=parity,
        failure=parity.failure(gate),
        device=session.device,
        tf32_difference=tf32.difference if tf32 else None,
        same_source=manifest.source_sha256 == source.sha256,
    )


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


def labelled_images(
    folder: str | Path, image_size: tuple[int, int], policy: ImagePolicy, class_names: Sequence[str]
) -> ImageFolder:
    """The labelled images of a folder in a fixed order, without the unreadable ones.

    Args:
        folder: a folder of class folders.
        image_size: `(height, width)`.
        policy: how to decode and resize.
        class_names: the model's classes, which the folders must be.

    Raises:
        ExportError: the folders are not the classes, or hold no image that can be read.
    """
    try:
        return ImageFolder(
            folder, image_size, BATCH, class_names=class_names, shuffle=False, policy=policy, on_error="skip"
        )
    except ValueError as error:
        raise ExportError(f"`{folder}` cannot be checked on: {error}") from error


def compare_on(
    folder: ImageFolder, model: keras.Model, file: Answer, *, preprocessing: str | None, output: str | None = None
) -> Parity:
    """Ask the model and the file about every image, a batch at a time.

    Args:
        folder: from `labelled_images`.
        model: the source, from `reference_model`.
        file: answers uint8 images with the file's probabilities.
        preprocessing: mode of `Preprocess` that stands before the model, or `None`.
        output: `"softmax"`, `"sigmoid"` or `"logits"`. Defaults to `None`, as the model says.

    Returns:
        A `Parity` with both accuracies.
    """
    expected, received = [], []
    for start in range(0, len(folder.paths), BATCH):
        images = folder.load(np.arange(start, min(start + BATCH, len(folder.paths))))
        expected.append(own_answers(model, images, preprocessing))
        received.append(file(images))
    outputs = np.concatenate(expected)
    return compare(
        probabilities_of(outputs, output or output_kind(model) or kind_of(outputs)),
        np.concatenate(received),
        folder.paths,
        folder.class_names,
        folder.labels,
    )
