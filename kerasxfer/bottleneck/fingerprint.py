"""What cached features depend on, as one hash: the prefix with its weights, the images' way into it, the platform.

The code that layers of one's own run is part of it; Keras's and the backend's are known by their versions.
"""

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

import keras
import numpy as np

from kerasxfer.bottleneck.graph import Graph
from kerasxfer.keras_internals import sublayers

FORMAT_VERSION = 2

# What Keras notes about an object besides its arguments. Automatic names would make the second model built in a process
# another one; `trainable` says nothing where all is frozen.
_BOOKKEEPING = {"name", "trainable", "build_config", "compile_config"}
# Arguments of Keras's own layers that say nothing about results: weights are hashed themselves, seeds set by the cache.
_WITHOUT_EFFECT = ("seed", "_initializer", "_regularizer", "_constraint")

_KNOWN_BY_VERSION = {"keras", "tensorflow", "jax", "jaxlib", "torch", "numpy", *sys.stdlib_module_names} - {"__main__"}
_CONSTANTS = (bool, int, float, complex, str, bytes, type(None))


def fingerprint(graph: Graph, position: int, start: int = 0, **conditions: Any) -> str:
    """Hash of all that the activations after `position` steps depend on, but the images.

    Args:
        graph: The model's graph.
        position: Number of steps in the prefix.
        start: First step that counts; those before it only augment the images. Defaults to `0`.
        **conditions: What else matters, JSON values: the images' size and resizing, augmentation, storage dtype, …

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    digest.update(_json({"format": FORMAT_VERSION, "platform": platform(), **conditions}))
    numbers: dict[int, int] = {id(graph.cut(start)): 0}
    digest.update(_json([list(graph.cut(start).shape[1:]), graph.cut(start).dtype]))
    for step in graph.steps[start:position]:
        arguments = keras.tree.map_structure(lambda leaf: _argument(leaf, numbers), (step.args, step.kwargs))
        digest.update(_json([type(step.operation).__qualname__, code_hash(step.operation), arguments]))
        policy = getattr(step.operation, "dtype_policy", None)
        digest.update(_json([policy and policy.name, canonical_config(step.operation)]))
        for variable in step.variables:
            if variable.name != "seed_generator_state":
                _update(digest, variable)
        for tensor in step.output_tensors:
            numbers[id(tensor)] = len(numbers)
    return digest.hexdigest()[:32]


def platform() -> dict[str, str]:
    """Backend and versions: another kernel may round otherwise."""
    backend = keras.backend.backend()
    return {"backend": backend, "version": _backend_version(backend), "keras": keras.version()}


def canonical_config(operation: keras.Operation) -> Any:
    """A layer's configuration without what has no effect on its results."""
    try:
        config = operation.get_config()
    except NotImplementedError:  # an operation with arguments of unknown kinds: its plain attributes say which
        config = {key: value for key, value in vars(operation).items() if not key.startswith("_")}
    return _arguments(config, by_keras=_is_of_keras(type(operation).__module__))


def _arguments(config: Mapping[str, Any], *, by_keras: bool) -> dict[str, Any]:
    """The arguments of a layer that count."""
    dropped = (*_BOOKKEEPING, *_WITHOUT_EFFECT) if by_keras else tuple(_BOOKKEEPING)
    kept = {key: value for key, value in config.items() if key not in dropped}
    if by_keras:
        kept = {key: value for key, value in kept.items() if not key.endswith(_WITHOUT_EFFECT[1:])}
    return {key: _canonical(value) for key, value in kept.items()}


def _canonical(value: Any) -> Any:
    """A part of a configuration; objects in it as Keras serialises them."""
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if not {"class_name", "config"} <= value.keys():
        return {str(key): _canonical(item) for key, item in value.items()}
    config = value["config"]
    if value["class_name"] == "__lambda__":  # its code is hashed, and Keras's way to write it differs between processes
        return "lambda"
    if isinstance(config, Mapping):  # of a layer; others have no bookkeeping, and a dtype policy only its name
        is_layer = "trainable" in config
        config = _arguments(config, by_keras=_is_of_keras(value.get("module"))) if is_layer else _canonical(config)
    return [value["class_name"], config]


def _is_of_keras(module: str | None) -> bool:
    return (module or "").split(".")[0] in ("keras", "kerasxfer")


def _argument(leaf: Any, numbers: Mapping[int, int]) -> Any:
    if isinstance(leaf, keras.KerasTensor):
        return f"tensor {numbers.get(id(leaf), 'constant')}"
    return leaf if isinstance(leaf, str | int | float | bool | type(None)) else _text(leaf)


def _text(value: Any) -> str:
    """A value that JSON does not know, the same in every process."""
    if keras.ops.is_tensor(value) or isinstance(value, np.ndarray):
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(value))
        return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
    text = repr(value)
    return f"{type(value).__qualname__} {getattr(value, '__qualname__', '')}" if " at 0x" in text else text


def _update(digest: Any, variable: Any) -> None:
    array = np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value))
    digest.update(_json([str(variable.dtype), list(array.shape)]))
    digest.update(array.view(np.uint8).reshape(-1) if array.size else b"")


def _backend_version(backend: str) -> str:
    from importlib.metadata import version

    return version(backend)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=_text).encode()


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
