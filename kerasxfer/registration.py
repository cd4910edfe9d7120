"""Registers the package's layers and models with Keras as soon as Keras is there, without importing it.

`keras.saving.load_model` then knows them wherever and however `kerasxfer` was imported, and `kerasxfer --help`, which
needs no Keras, does not wait for it.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_REGISTERING = ("kerasxfer.layers", "kerasxfer.models")


def register_with_keras() -> None:
    """Register now where Keras is imported, else right after its import."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _register() -> None:
    for name in _REGISTERING:
        import_module(name)


class _AfterKeras(MetaPathFinder):
    """Finds `keras` as everybody else does, once, and registers after its import.

    Where a module of ours imports Keras first, half of it is there: registering waits for the next import after it is
    whole. `load_model` imports the module of a class that it does not know, so that is early enough.
    """

    def __init__(self) -> None:
        self._imported = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self._imported:
            self._register_if_whole()
        elif fullname == "keras":
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(fullname)
            if spec is not None and spec.loader is not None:
                spec.loader = _RegisteringLoader(spec.loader, self)
            return spec
        return None

    def keras_is_imported(self) -> None:
        self._imported = True
        sys.meta_path.insert(0, self)
        self._register_if_whole()

    def _register_if_whole(self) -> None:
        specs = [module.__spec__ for name, module in list(sys.modules.items()) if name.startswith("kerasxfer.")]
        if self in sys.meta_path and not any(getattr(spec, "_initializing", False) for spec in specs):
            sys.meta_path.remove(self)
            _register()


class _RegisteringLoader(Loader):
    def __init__(self, loader: Loader, finder: _AfterKeras) -> None:
        self.loader = loader
        self.finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.finder.keras_is_imported()
