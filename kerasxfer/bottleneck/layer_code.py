"""The code that layers of one's own run, as a hash. Keras's and the backend's are known by their versions."""

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import keras

from kerasxfer.keras_internals import sublayers

_KNOWN_BY_VERSION = {"keras", "tensorflow", "jax", "jaxlib", "torch", "numpy", *sys.stdlib_module_names} - {"__main__"}
_CONSTANTS = (bool, int, float, complex, str, bytes, type(None))


def code_hash(operation: keras.Operation) -> str:
    """Hash of the code behind an operation, empty if all of it is Keras's.

    That is: the class, its bases and those of all layers inside it, functions kept as attributes, and the functions,
    classes and constants of the same package, or of modules that are not installed, that any of these name. What other
    installed packages do, and what is read from files, is not part of it.
    """
    walk = _Walk()
    for layer in _with_sublayers(operation):
        walk.add(type(layer))
        for name, value in sorted(vars(layer).items()):
            if isinstance(value, FunctionType):
                walk.add(value)
            elif not name.startswith("_") and not isinstance(value, type):
                walk.add(type(value))
    if not walk.found:
        return ""
    return hashlib.sha256(json.dumps([sys.version_info[:2], walk.found]).encode()).hexdigest()[:32]


def is_known_by_version(module: str) -> bool:
    """Whether a module's code can only change with a version that is hashed anyway."""
    return module.split(".")[0] in _KNOWN_BY_VERSION


class _Walk:
    """Goes from functions and classes to what they name, and notes the code of each once."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self._seen: set[int] = set()

    def add(self, value: Any) -> None:
        """Note a function or a class, with what it names; anything else is passed over."""
        if isinstance(value, FunctionType):
            value = inspect.unwrap(value)
        if not isinstance(value, FunctionType | type) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, type):
            self._add_class(value)
        elif not is_known_by_version(value.__module__ or ""):
            self._add_function(value)

    def _add_class(self, cls: type) -> None:
        for base in cls.__mro__:
            if is_known_by_version(base.__module__):
                continue
            for name, member in sorted(vars(base).items()):
                parts = (member.fget, member.fset) if isinstance(member, property) else (member,)
                for part in parts:
                    self.add(getattr(part, "__func__", part))
                if isinstance(member, _CONSTANTS) and not name.startswith("__"):
                    self.found.append([base.__qualname__, name, repr(member)])

    def _add_function(self, function: FunctionType) -> None:
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        self.found.append(
            [function.__qualname__, _plain(function.__code__), [_constant(v) for v in (*cells, *defaults)]]
        )
        for value in (*cells, *defaults):
            if isinstance(value, FunctionType):
                self.add(value)
        for name, value in _named_by(function):
            if isinstance(value, _CONSTANTS):
                self.found.append([function.__qualname__, name, repr(value)])
            elif isinstance(value, FunctionType | type) and _belongs_together(function, value):
                self.add(value)


def _with_sublayers(layer: Any) -> Iterator[Any]:
    yield layer
    for child in sublayers(layer):
        yield from _with_sublayers(child)


def _named_by(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Globals that a function names, and members that it may take of its own modules among them."""
    names = sorted(_names(function.__code__))
    for name in names:
        if name not in function.__globals__:
            continue
        value = function.__globals__[name]
        if isinstance(value, ModuleType) and not is_known_by_version(value.__name__):
            yield from ((f"{name}.{member}", vars(value)[member]) for member in names if member in vars(value))
        else:
            yield name, value


def _names(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _belongs_together(function: FunctionType, value: Any) -> bool:
    """Whether what a function names is code of the same package, or of one that is not installed."""
    module = value.__module__ or ""
    if module.split(".")[0] == (function.__module__ or "").split(".")[0]:
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return "site-packages" not in file and "dist-packages" not in file


def _plain(code: CodeType) -> list[Any]:
    """What a function does, without where it stands."""
    constants = [_plain(value) if isinstance(value, CodeType) else _constant(value) for value in code.co_consts]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames, code.co_freevars]


def _constant(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(map(repr, value))  # their order changes from process to process
    if isinstance(value, tuple | list):
        return [_constant(part) for part in value]
    return repr(value) if isinstance(value, _CONSTANTS) else type(value).__qualname__


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
