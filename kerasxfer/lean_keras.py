"""Keras without what it imports only because it is installed: half of the start of a process."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_CONVENIENCES = ("IPython", "matplotlib", "pandas", "sklearn")
_BACKENDS_WITHOUT_JAX = ("tensorflow", "torch")


def import_keras_lean() -> None:
    """Let Keras be imported without pandas, matplotlib, scikit-learn, IPython and, on another backend, JAX.

    Keras, TensorFlow and PyTorch take them where they are there, for data frames, galleries, wrappers and notebooks:
    nothing that a process of ours uses. They can be imported as ever once Keras is there.
    """
    around_keras(_hidden)


def around_keras(context: Callable[[], AbstractContextManager[None]]) -> None:
    """Let the first import of Keras in this process happen within a context."""
    sys.meta_path.insert(0, _AroundKeras(context))


class _AroundKeras(MetaPathFinder):
    """Finds `keras` as the finders behind it do, once."""

    def __init__(self, context: Callable[[], AbstractContextManager[None]]) -> None:
        self.context = context

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _LoaderWithin(spec.loader, self.context)
        return spec


class _LoaderWithin(Loader):
    def __init__(self, loader: Loader, context: Callable[[], AbstractContextManager[None]]) -> None:
        self.loader = loader
        self.context = context

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        with self.context():
            self.loader.exec_module(module)


@contextmanager
def _hidden() -> Iterator[None]:
    jax = ("jax",) if os.environ.get("KERAS_BACKEND") in _BACKENDS_WITHOUT_JAX else ()
    names = [name for name in (*_CONVENIENCES, *jax) if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))  # what is `None` there cannot be imported
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
