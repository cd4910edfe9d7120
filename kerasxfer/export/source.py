"""The model that is exported: opened from wherever it is, and asked for its own answers."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.images import ImagePolicy
from numpy.typing import NDArray

from kerasxfer.export.custom_modules import Module, import_modules, module_of, modules_of
from kerasxfer.export.errors import ExportError
from kerasxfer.export.served import input_dtype, is_channels_first, needs_preparation, prepare
from kerasxfer.layers.preprocess import Preprocess
from kerasxfer.runs.run_folder import RunFolder, RunRecord

BATCH = 16


@dataclass(frozen=True)
class Source:
    """A Keras classifier and what is known about it.

    Args:
        model: as it was trained.
        file: the file or SavedModel folder it came from, or `None` for a model in memory.
        sha256: of the file; of a model in memory, of its architecture and weights.
        record: What the run folder says about it, or `None`.
        modules: modules with custom layers.
    """

    model: keras.Model
    file: Path | None
    sha256: str
    record: RunRecord | None = None
    modules: tuple[Module, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The run's classes, or `None`."""
        return self.record.class_names or None if self.record else None

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """`(height, width)` of the model's input, or `None` where it takes any."""
        shape = self.model.input_shape
        height, width = shape[2:4] if is_channels_first(self.model) else shape[1:3]
        return (height, width) if height and width else None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """`(height, width)` of the model's input, else of the run, else `None`."""
        return self.fixed_size or (self.record.config.image_size if self.record else None)

    @property
    def policy(self) -> ImagePolicy:
        """How the run decoded its images."""
        return ImagePolicy.from_dict(self.record.config.policy) if self.record else ImagePolicy()


def open_source(
    model_or_path: keras.Model | str | Path, *, modules: Iterable[str] = (), safe_mode: bool = True
) -> Source:
    """Open a model for export.

    Args:
        model_or_path: a model in memory, a run folder, a `.keras` or `.h5` file or a SavedModel folder.
        modules: names or `.py` files of modules with custom layers.
        safe_mode: refuse Python code (`Lambda` layers) inside the file. Defaults to `True`.

    Returns:
        A `Source`.

    Raises:
        ExportError: there is no model, Keras cannot read it, or it is not one image in and one output out.
    """
    named = tuple(module_of(text) for text in modules)
    import_modules(named)
    if isinstance(model_or_path, keras.Model):
        model = with_known_input(model_or_path)
        _refuse_other_shapes(model)
        found = dict([*named, *modules_of(model)])
        return Source(model, None, _digest(model), modules=tuple(found.items()))
    file = Path(model_or_path)
    run = RunFolder(file if file.is_dir() else file.parent)
    if file.is_dir() and run.model.is_file():
        file = run.model
    model = read_model(file, safe_mode=safe_mode)
    _refuse_other_shapes(model)
    return Source(
        model,
        file,
        hashlib.sha256(_bytes(file)).hexdigest(),
        record=_record_of(run) if file == run.model else None,
        modules=tuple(dict([*named, *modules_of(model)]).items()),
    )


def read_model(file: Path, *, safe_mode: bool = True) -> keras.Model:
    """Read a `.keras` or `.h5` file or, on TensorFlow, a SavedModel folder.

    Raises:
        ExportError: there is no such file, or Keras cannot read it.
    """
    if not file.exists():
        raise ExportError(f"There is no model `{file}`.")
    if (file / "saved_model.pb").is_file():
        return _read_saved_model(file)
    if file.is_dir():
        raise ExportError(
            f"A run folder holds `model.keras`, a SavedModel folder `saved_model.pb`. Received: `{file}`."
        )
    try:
        return with_known_input(keras.saving.load_model(file, compile=False, safe_mode=safe_mode))
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ExportError(
            f"Keras cannot read `{file}`: {error}\nFor a custom layer, import its module with `modules=` "
            "(`--import` on the command line); for a `Lambda` layer of your own, allow it with `safe_mode=False` "
            "(`--unsafe`)."
        ) from error


def with_known_input(model: keras.Model) -> keras.Model:
    """A subclassed model as a functional one, on images of the size that it was called with; any other as it is."""
    shape = (model.get_build_config() or {}).get("input_shape")
    if hasattr(model, "input_shape") or not shape or not isinstance(shape[0], int | None):
        return model
    images, weights = keras.Input(tuple(shape[1:])), len(model.weights)
    functional = keras.Model(images, model(images), name=model.name)
    if len(model.weights) != weights:
        raise ExportError(f"`{model.name}` has weights that were never built. Call it on images before the export.")
    return functional


def own_answers(model: keras.Model, images: NDArray[np.uint8], preprocessing: str | None) -> NDArray[np.float32]:
    """The outputs of the model itself, on its own backend, before anything is converted.

    Args:
        model: as trained. A model in half precision answers as its float32 twin would: see `reference_model`.
        images: uint8 `[n, height, width, 3]`.
        preprocessing: mode of `Preprocess` that stands before the model, or `None`.

    Returns:
        float32 `[n, columns]`, the model's outputs as they are.
    """
    layer = Preprocess(preprocessing, data_format="channels_last", dtype="float32") if preprocessing else None
    answers = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        # Always a whole batch: another shape would be compiled anew.
        pixels: Any = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), np.uint8)])
        pixels = keras.ops.convert_to_numpy(layer(pixels)) if layer else pixels.astype(input_dtype(model))
        if is_channels_first(model):
            pixels = pixels.transpose(0, 3, 1, 2)
        answers.append(np.asarray(model.predict_on_batch(pixels), np.float32)[: len(part)])
    return np.concatenate(answers)


def reference_model(source: Source, folder: Path) -> tuple[keras.Model, Path]:
    """The model to compare with and the file to convert.

    Args:
        source: an opened model.
        folder: where a model in memory is saved.

    Returns:
        The model as trained, or its float32 twin where it computes in half precision; and its file.
    """
    file = source.file
    if file is None or file.suffix in (".h5", ".hdf5"):
        file = folder / "source.keras"
        source.model.save(file)
    if not needs_preparation(source.model):
        return source.model, file
    return prepare(read_model(file, safe_mode=False)), file


def _record_of(run: RunFolder) -> RunRecord | None:
    try:
        return run.read()
    except KerasxferError:  # none, or the `config.json` of another tool
        return None


def _refuse_other_shapes(model: keras.Model) -> None:
    try:
        shapes = model.input_shape, model.output_shape
    except (AttributeError, ValueError) as error:
        raise ExportError(
            f"`{model.name}` has no known input shape. Call it once on a batch of images, or build it, before the "
            "export."
        ) from error
    for what, shape, rank in (("input", shapes[0], 4), ("output", shapes[1], 2)):
        if not isinstance(shape, tuple) or not all(size is None or isinstance(size, int) for size in shape):
            raise ExportError(
                f"An exported classifier has one {what}. Received: `{model.name}` with {what}s {shape}. "
                "Choose one: `keras.Model(model.inputs[0], model.outputs[0])`."
            )
        if len(shape) != rank:
            raise ExportError(f"The {what} of a classifier has {rank} dimensions. Received: `{model.name}`, {shape}.")


def _read_saved_model(folder: Path) -> keras.Model:
    """A SavedModel as a Keras model: inference only, its input as the file declares it."""
    if keras.backend.backend() != "tensorflow":
        raise ExportError(f"Only TensorFlow reads the SavedModel `{folder}`. Set KERAS_BACKEND=tensorflow.")
    import tensorflow as tf

    signatures = tf.saved_model.load(str(folder)).signatures
    name = next((name for name in ("serving_default", "serve") if name in signatures), None)
    if name is None:
        raise ExportError(f"`{folder}` has no signature to serve. Received: signatures {sorted(signatures)}.")
    (spec,) = signatures[name].structured_input_signature[1].values()
    images = keras.Input(tuple(spec.shape)[1:], dtype=spec.dtype.name)
    outputs = keras.layers.TFSMLayer(str(folder), call_endpoint=name)(images)
    return keras.Model(images, next(iter(outputs.values())) if isinstance(outputs, dict) else outputs)


def _digest(model: keras.Model) -> str:
    """SHA-256 of architecture and weights: a saved file would carry the time of day."""
    digest = hashlib.sha256(model.to_json().encode())
    for variable in model.variables:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value)).tobytes())
    return digest.hexdigest()


def _bytes(file: Path) -> bytes:
    return (file / "saved_model.pb" if file.is_dir() else file).read_bytes()
