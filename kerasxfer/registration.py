"""Registers the package's layers and models with Keras as soon as Keras is there, without importing it.

`keras.saving.load_model` then knows them wherever and however `kerasxfer` was imported, and `kerasxfer --help`, which
needs no Keras, does not wait for it.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from types import ModuleType

from kerasxfer.lean_keras import around_keras

_REGISTERING = ("kerasxfer.layers", "kerasxfer.models")


def register_with_keras() -> None:
    """Register now where Keras is imported, else right after its import."""
    if "keras" in sys.modules:
        _register()
    else:
        around_keras(_registering)


def _register() -> None:
    for name in _REGISTERING:
        import_module(name)


@contextmanager
def _registering() -> Iterator[None]:
    yield
    waiting = _WhenWhole()
    sys.meta_path.insert(0, waiting)
    waiting.register_if_whole()


class _WhenWhole(MetaPathFinder):
    """Finds nothing, and registers at the first import after that of Keras at which no module of ours is half there.

    A module of ours may be what imports Keras. `load_model` imports the module of a class that it does not know, so
    that is early enough.
    """

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        self.register_if_whole()

    def register_if_whole(self) -> None:
        specs = [module.__spec__ for name, module in list(sys.modules.items()) if name.startswith("kerasxfer.")]
        if self in sys.meta_path and not any(getattr(spec, "_initializing", False) for spec in specs):
            sys.meta_path.remove(self)
            _register()
