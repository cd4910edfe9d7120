"""The model that is exported, opened from wherever it is: Keras reads a private copy, and the copy is converted."""

import hashlib
import importlib
import importlib.util
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import KerasxferError, ModelError
from kerasxfer_serving.images import ImagePolicy

from kerasxfer import keras_files
from kerasxfer.export.errors import ExportError
from kerasxfer.export.served import is_channels_first, refuse_other_shapes
from kerasxfer.keras_internals import all_layers
from kerasxfer.layers.classifier_head import class_names_of, task_of
from kerasxfer.runs.run_folder import RunFolder, RunRecord

Module = tuple[str, str | None]
"""Name of a module and the file to load it from where the name cannot be imported."""


@dataclass(frozen=True)
class Source:
    """A Keras classifier and what is known about it.

    Args:
        model: As it was trained.
        file: The private file or SavedModel folder that is converted.
        sha256: Of the file that the user gave; of a model in memory, of its architecture and weights.
        loss: What the model was compiled with: a loss, its name or configuration, or `None`.
        record: What the run folder says about it, or `None`.
        modules: Modules with custom layers.
        preprocess_input: The module of `keras.applications` whose `preprocess_input` a `Lambda` layer calls, or `None`.
        safe_mode: Whether the file may hold no code.
    """

    model: keras.Model
    file: Path
    sha256: str
    loss: Any = None
    record: RunRecord | None = None
    modules: tuple[Module, ...] = ()
    preprocess_input: str | None = None
    safe_mode: bool = True

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes that the model carries, else the run's, else `None`."""
        return class_names_of(self.model) or (self.record.class_names if self.record else ()) or None

    @property
    def task(self) -> str | None:
        """`"single_label"` or `"multi_label"`, as the model's head says, else the run; `None` where nothing does."""
        return task_of(self.model) or (self.record.config.task if self.record else None)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probabilities that the run chose, from which each class fits; empty where it chose none."""
        return self.record.thresholds if self.record else ()

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
    model_or_path: keras.Model | str | Path,
    folder: Path,
    *,
    modules: Iterable[str] = (),
    preprocess_input: str | None = None,
    safe_mode: bool = True,
) -> Source:
    """Open a model for export.

    Args:
        model_or_path: A model in memory, a run folder, a `.keras` or `.h5` file or a SavedModel folder.
        folder: A folder of this process alone, for the file that is converted.
        modules: Names or `.py` files of modules with custom layers.
        preprocess_input: The application whose `preprocess_input` a file's `Lambda` layer names. Defaults to `None`.
        safe_mode: Whether to refuse code inside the file: `Lambda` layers, and SavedModels, which are programs.
            Defaults to `True`.

    Returns:
        A `Source`.

    Raises:
        ExportError: If there is no model, Keras cannot read it, or it is not one image in and one output out.
    """
    named = tuple(_module_of(text) for text in modules)
    import_modules(named)
    if isinstance(model_or_path, keras.Model):
        return _from_memory(model_or_path, folder, named)
    path = Path(model_or_path)
    if path.is_dir() and RunFolder(path).model.is_file():
        path = RunFolder(path).model
    try:
        if path.is_dir():
            return _open_saved_model(path, folder, named, safe_mode)
        return _open_file(path, folder, named, preprocess_input, safe_mode)
    except ModelError as error:
        raise ExportError(str(error)) from error


def read_source(file: Path, *, preprocess_input: str | None, safe_mode: bool) -> keras.Model:
    """Read a private file or SavedModel folder.

    Args:
        file: The file or folder.
        preprocess_input: As in `open_source`.
        safe_mode: As in `open_source`.

    Raises:
        ExportError: If the model has weights that were never built.
        ModelError: If Keras cannot read it.
    """
    if file.is_dir():
        return _read_saved_model(file)
    taken = keras_files.inspect_file(file)
    return with_known_input(keras_files.read(taken, preprocess_input=preprocess_input, safe_mode=safe_mode))


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


def digest(file: Path) -> str:
    """SHA-256 of a file, or of every file in a folder with its name."""
    if file.is_file():
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    parts = sorted(path.relative_to(file).as_posix() for path in file.rglob("*") if path.is_file())
    return hashlib.sha256("".join(f"{digest(file / part)} {part}\n" for part in parts).encode()).hexdigest()


def _from_memory(given: keras.Model, folder: Path, named: tuple[Module, ...]) -> Source:
    model = with_known_input(given)
    refuse_other_shapes(model)
    modules = tuple(dict([*named, *_modules_of(model)]).items())
    file = folder / "source.keras"
    model.save(file)
    # Its code runs in this process already.
    loss = getattr(given, "loss", None)
    return Source(
        model,
        file,
        _digest_of_weights(model),
        loss=loss,
        modules=modules,
        preprocess_input=_preprocess_input_of(model),
        safe_mode=False,
    )


def _preprocess_input_of(model: keras.Model) -> str | None:
    """The module of `keras.applications` whose `preprocess_input` a `Lambda` layer of a model calls, or `None`."""
    for layer in all_layers(model):
        module, _, name = getattr(getattr(layer, "function", None), "__module__", "").rpartition(".")
        if module.endswith(".applications") and layer.function.__name__ == "preprocess_input":
            return str(name)
    return None


def _open_file(
    path: Path, folder: Path, named: tuple[Module, ...], preprocess_input: str | None, safe_mode: bool
) -> Source:
    taken = keras_files.take(path, folder)
    sha256 = digest(taken.path)
    model = with_known_input(keras_files.read(taken, preprocess_input=preprocess_input, safe_mode=safe_mode))
    refuse_other_shapes(model)
    file = taken.path
    if file.suffix != ".keras":
        file = folder / "converted.keras"
        model.save(file)
    return Source(
        model,
        file,
        sha256,
        loss=taken.training.get("loss"),
        record=_record_beside(path),
        modules=tuple(dict([*named, *_modules_of(model)]).items()),
        preprocess_input=_preprocess_input_of(model),
        safe_mode=safe_mode,
    )


def _record_beside(path: Path) -> RunRecord | None:
    """The record of the run whose model lies at `path`, or `None`."""
    run = RunFolder(path.parent)
    if path != run.model:
        return None
    try:
        return run.read()
    except KerasxferError:
        return None


def _open_saved_model(path: Path, folder: Path, named: tuple[Module, ...], safe_mode: bool) -> Source:
    if not (path / "saved_model.pb").is_file():
        raise ExportError(
            f"A run folder holds `model.keras`, a SavedModel folder `saved_model.pb`. Received: `{path}`."
        )
    if safe_mode:
        raise ExportError(
            f"`{path}` is a SavedModel: a program, which may read and write files. If you trust it, allow it with "
            "`safe_mode=False` (`--unsafe`)."
        )
    copy = folder / "source"
    shutil.copytree(path, copy)
    model = _read_saved_model(copy)
    refuse_other_shapes(model)
    return Source(model, copy, digest(copy), modules=named, safe_mode=False)


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


def _digest_of_weights(model: keras.Model) -> str:
    """SHA-256 of architecture and weights: a saved file would carry the time of day."""
    found = hashlib.sha256(model.to_json().encode())
    for variable in model.variables:
        found.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value)).tobytes())
    return found.hexdigest()


def _module_of(text: str) -> Module:
    """Read what `--import` takes: the name of a module, or a `.py` file."""
    path = Path(text)
    return (path.stem, str(path.resolve())) if path.suffix == ".py" else (text, None)


def import_modules(modules: Iterable[Module]) -> None:
    """Import each module, which registers its layers.

    Raises:
        ExportError: A module is neither importable nor a file.
    """
    for name, file in modules:
        if name in sys.modules:
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.partition(".")[0] and error.name != name:
                raise  # the module is there; what it imports is not
            _load_file(name, file)


def _modules_of(model: keras.Model) -> list[Module]:
    """The modules of the custom layers in a model.

    Raises:
        ExportError: A class lives in `__main__`, which no other process can import.
    """
    found: dict[str, str | None] = {}
    for layer in all_layers(model):
        name = type(layer).__module__
        if name == "__main__":
            raise ExportError(
                f"The class of the layer `{layer.name}` must live in a module, for the conversion runs in a process of "
                f"its own. Received: `{type(layer).__name__}` in `__main__`. Move it to a file."
            )
        if name.partition(".")[0] not in ("keras", "kerasxfer"):
            found[name] = getattr(sys.modules.get(name), "__file__", None)
    return list(found.items())


def _load_file(name: str, file: str | None) -> None:
    spec = importlib.util.spec_from_file_location(name, file) if file and Path(file).is_file() else None
    if spec is None or spec.loader is None:
        raise ExportError(f"There is no module `{name}` to import. Give its name on `sys.path`, or its .py file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
