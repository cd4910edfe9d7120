"""Custom layers in the converting process: the modules that register them, found by name or by file."""

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

import keras

from kerasxfer.export.errors import ExportError
from kerasxfer.keras_internals import all_layers

Module = tuple[str, str | None]
"""Name of a module and the file to load it from where the name cannot be imported."""


def module_of(text: str) -> Module:
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


def modules_of(model: keras.Model) -> list[Module]:
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
