"""Model files that Keras wrote, from anywhere: looked at before Keras reads them, and read without their code.

Safe mode is enforced here, on what the file says, and by Keras once more: older releases let some files through.
"""

import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from kerasxfer_serving.errors import ModelError

from kerasxfer import keras2_config
from kerasxfer.layers.preprocess import application_preprocess_input

# A config of a thousand layers has a megabyte. Weights are stored as they are, or shrink to a half.
_MAX_JSON = 64 << 20
_MAX_EXPANSION = 20
_MAX_WEIGHTS = 1_000_000

_CUSTOM_LAYER = "For a custom layer, import its module with `modules=` (`--import` on the command line)."
_KERAS_2 = (
    "Keras 2 wrote the file, and its own package reads it: `pip install tf_keras`, then "
    '`tf_keras.models.load_model({path!r}).export("saved")`. The folder `saved` is a SavedModel, which is exported '
    "with `safe_mode=False` (`--unsafe`)."
)
_REBUILD = (
    "The code of a `Lambda` layer is stored without the names around it, its imports for instance. Build the model "
    'again with a layer instead of the `Lambda`, `kerasxfer.layers.Preprocess("VGG16")` instead of VGG16\'s '
    "`preprocess_input`, and give it the weights: `model.load_weights({path!r})`."
)

_PREPROCESS_INPUT = ("builtins", "preprocess_input")  # as Keras stores it, whichever it was
_LAMBDA = ("__lambda__", "Lambda")
_CODE = ("__lambda__", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer")


@dataclass(frozen=True)
class KerasFile:
    """A private copy of a `.keras` or `.h5` file that was looked at.

    Args:
        path: The copy.
        original: Where it came from, for messages.
        config: The model's configuration, as Keras wrote it.
        training: What the model was compiled with, or `{}`.
        keras_version: Of the Keras that wrote it, or `""`.
    """

    path: Path
    original: Path
    config: Mapping[str, Any]
    training: Mapping[str, Any]
    keras_version: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the copy."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def load_model(path: str | Path, *, preprocess_input: str | None = None, safe_mode: bool = True) -> keras.Model:
    """Load a `.keras` or `.h5` file without compiling the model.

    Args:
        path: The file.
        preprocess_input: The application whose `preprocess_input` the model calls in a `Lambda` layer: `"vgg16"`. The
            file names the function, but not where it is from. Defaults to `None`.
        safe_mode: Whether to refuse files with Python code (`Lambda` layers). Defaults to `True`.

    Returns:
        The model.

    Raises:
        ModelError: If there is no such file, it is not what Keras writes, it unpacks to more than its size explains,
            it holds code, or Keras cannot read it.
    """
    with tempfile.TemporaryDirectory(prefix="kerasxfer-") as folder:
        return read(take(Path(path), Path(folder)), preprocess_input=preprocess_input, safe_mode=safe_mode)


def take(path: Path, folder: Path) -> KerasFile:
    """Copy a file into a private folder, where nobody can exchange it, and look at it there.

    Args:
        path: A `.keras` or `.h5` file.
        folder: A folder of this process alone.

    Returns:
        A `KerasFile`.

    Raises:
        ModelError: As in `load_model`.
    """
    if not path.is_file():
        raise ModelError(f"The model file `{path}` does not exist.")
    if path.suffix not in _READERS:
        raise ModelError(f"A model file must be a `.keras` or `.h5` file. Received: `{path}`.")
    copy = folder / f"source{path.suffix}"
    shutil.copyfile(path, copy)
    return inspect_file(copy, path)


def inspect_file(path: Path, original: Path | None = None) -> KerasFile:
    """Look at a private file before Keras reads it.

    Args:
        path: A `.keras` or `.h5` file that nobody can exchange.
        original: The file that messages name. Defaults to `path`.

    Returns:
        A `KerasFile`.

    Raises:
        ModelError: As in `load_model`.
    """
    with _said_of(original or path):
        return KerasFile(path, original or path, *_READERS[path.suffix](path))


def read(file: KerasFile, *, preprocess_input: str | None = None, safe_mode: bool = True) -> keras.Model:
    """Let Keras read a file that was looked at.

    Args:
        file: From `take` or `inspect_file`.
        preprocess_input: As in `load_model`.
        safe_mode: As in `load_model`.

    Raises:
        ModelError: As in `load_model`.
    """
    with _said_of(file.original, _remedy(file)):
        config = keras2_config.translate(file.config) if _is_keras_2_h5(file) else file.config
    code = _code_in(config)
    remedy = _remedy(file, code)
    if safe_mode and code:
        more = remedy if code in _LAMBDA else ""
        raise ModelError(
            f"`{file.original}` holds Python code or a program (`{code}`), which would run. If you trust it, allow "
            f"it with `safe_mode=False` (`--unsafe`). {more}".rstrip()
        )
    known = {} if preprocess_input is None else {"preprocess_input": application_preprocess_input(preprocess_input)}
    with keras.saving.custom_object_scope(known), _said_of(file.original, remedy):
        if layer := _unresolved_preprocess_input(config):
            raise ModelError(
                f"its layer `{layer}` calls `preprocess_input`, and the file does not say of which application. Say it "
                "with `preprocess_input=` (`--preprocess-input`): `vgg16`, `resnet50`, `mobilenet_v2`, …"
            )
        if config is not file.config:
            _set_config(file.path, config)
        model = keras.saving.load_model(file.path, compile=False, safe_mode=safe_mode)
        if code in _LAMBDA and model.built and not hasattr(model, "input_shape"):
            raise ValueError("the code of a `Lambda` layer fails.")  # which a sequential model does not say
        return model


def _is_keras_2_h5(file: KerasFile) -> bool:
    return file.keras_version.startswith("2.") and file.path.suffix != ".keras"


def _remedy(file: KerasFile, code: str | None = None) -> str:
    """What helps where Keras cannot read a file."""
    if file.keras_version.startswith("2."):
        return _KERAS_2.format(path=str(file.original))
    return _REBUILD.format(path=str(file.original)) if code in _LAMBDA else _CUSTOM_LAYER


def _set_config(path: Path, config: Mapping[str, Any]) -> None:
    """Give a private `.h5` file another configuration."""
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)


@contextmanager
def _said_of(path: Path, remedy: str = _CUSTOM_LAYER) -> Iterator[None]:
    """Turn whatever reading a file raises into one sentence: what is in a file decides which error Keras meets."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"`{path}` is refused: {error}") from None
    except RecursionError:
        raise ModelError(f"Keras cannot read `{path}`: it is nested too deeply.") from None
    except Exception as error:
        raise ModelError(f"Keras cannot read `{path}`: {error}\n{remedy}") from error


def _read_keras(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], str]:
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        _bound("config.json", sizes.get("config.json", 0), _MAX_JSON)
        _bound("the archive", sum(sizes.values()), _allowed(path))
        if len(sizes) < len(archive.infolist()):
            raise ModelError("the archive has a member twice.")
        config = json.loads(archive.read("config.json"))
        _bound("metadata.json", sizes.get("metadata.json", 0), _MAX_JSON)
        metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in sizes else {}
        for name in sizes:
            if name.endswith(".h5"):
                with archive.open(name) as member:
                    _check_weights(io.BytesIO(member.read()), _allowed(path))
    return config, config.get("compile_config") or {}, str(metadata.get("keras_version", ""))


def _read_h5(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], str]:
    import h5py

    _check_weights(path, _allowed(path))
    with h5py.File(path) as file:
        if "model_config" not in file.attrs:
            raise ModelError("it holds weights without a model. Build the model, then call `model.load_weights`.")
        config, training = (_json(file.attrs.get(name)) for name in ("model_config", "training_config"))
        version = file.attrs.get("keras_version", "")
    return config, training, version.decode() if isinstance(version, bytes) else str(version)


_READERS = {".keras": _read_keras, ".h5": _read_h5, ".hdf5": _read_h5}


def _json(text: Any) -> Mapping[str, Any]:
    if text is None:
        return {}
    _bound("its configuration", len(text), _MAX_JSON)
    value = json.loads(text)
    return value if isinstance(value, dict) else {}


def _check_weights(file: Any, allowed: int) -> None:
    """Refuse data sets that lie in other files, or that unpack to more than the file's size explains."""
    import h5py

    with h5py.File(file) as weights:
        total = 0
        for item in _items(weights["/"]):
            if isinstance(item, h5py.Dataset):
                if item.external:
                    raise ModelError(f"its weights lie in another file: {item.name}.")
                total += item.nbytes
        _bound("its weights", total, allowed)


def _items(root: Any) -> Iterator[Any]:
    """Everything in a group, through hard links only; a file may make a circle of them."""
    import h5py

    groups, count = [root], 0
    while groups:
        group = groups.pop()
        for name in group:
            count += 1
            if count > _MAX_WEIGHTS:
                raise ModelError(f"it holds more than {_MAX_WEIGHTS:,} weights.")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ModelError(f"its weights lead to another place: {group.name}/{name}.")
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append(item)
            yield item


def _allowed(path: Path) -> int:
    return _MAX_JSON + _MAX_EXPANSION * path.stat().st_size


def _bound(what: str, size: int, most: int) -> None:
    if size > most:
        raise ModelError(f"{what} unpacks to {size:,} bytes; at most {most:,} are read.")


def _code_in(config: Any) -> str | None:
    """The name of what would run in a configuration, or `None`."""
    for value in _objects(config):
        if value.get("class_name") in _CODE:
            return str(value["class_name"])
        if value.get("function_type") == "lambda":
            return "Lambda"
    return None


def _unresolved_preprocess_input(config: Any) -> str | None:
    """The name of a `Lambda` layer that calls a `preprocess_input` which no one has registered, or `None`."""
    if keras.saving.get_registered_object("preprocess_input"):
        return None
    for value in _objects(config):
        if value.get("class_name") == "Lambda" and isinstance(layer := value.get("config"), dict):
            function = layer.get("function")
            if isinstance(function, dict) and (function.get("module"), function.get("config")) == _PREPROCESS_INPUT:
                return str(layer.get("name"))
    return None


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every object in a configuration. Without recursion: the file decides how deep it is."""
    values = [config]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            yield value
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
