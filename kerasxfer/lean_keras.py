"""Keras without what it imports only because it is installed: half of the start of a process."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType

_CONVENIENCES = ("IPython", "matplotlib", "pandas", "sklearn")
_BACKENDS_WITHOUT_JAX = ("tensorflow", "torch")


def import_keras_lean() -> None:
    """Let Keras be imported without pandas, matplotlib, scikit-learn, IPython and, on another backend, JAX.

    Keras, TensorFlow and PyTorch take them where they are there, for data frames, galleries, wrappers and notebooks:
    nothing that a process of ours uses. They can be imported as ever once Keras is there.
    """
    sys.meta_path.insert(0, _LeanKeras)


class _LeanKeras(PathFinder):
    """Finds Keras alone, and hides packages while it runs."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        if fullname != "keras" or (spec := super().find_spec(fullname, path, target)) is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with _hidden():
                execute(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


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
