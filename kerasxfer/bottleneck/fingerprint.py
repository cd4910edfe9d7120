"""What cached features depend on, as one hash: the prefix with its weights, the pictures' way into it, the platform."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerasxfer.bottleneck.graph import Graph

FORMAT_VERSION = 1

# Names say nothing about results, `trainable` neither where all is frozen, and initialisers nothing about the weights,
# which are hashed themselves. Automatic names would make the second model built in a process another one.
_IGNORED = {"name", "trainable", "registered_name", "build_config", "compile_config", "shared_object_id", "seed"}
_IGNORED_SUFFIXES = ("_initializer", "_regularizer", "_constraint", "_name")


def fingerprint(graph: Graph, position: int, start: int = 0, **conditions: Any) -> str:
    """Hash of all that the activations after `position` steps depend on, but the pictures.

    Args:
        graph: the model's graph.
        position: number of steps in the prefix.
        start: first step that counts; those before it only augment the pictures. Defaults to `0`.
        **conditions: what else matters, JSON values: the pictures' size and resizing, augmentation, storage dtype, …

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    digest.update(_json({"format": FORMAT_VERSION, "platform": platform(), **conditions}))
    numbers: dict[int, int] = {id(graph.cut(start)): 0}
    digest.update(_json([list(graph.cut(start).shape[1:]), graph.cut(start).dtype]))
    for step in graph.steps[start:position]:
        arguments = keras.tree.map_structure(lambda leaf: _argument(leaf, numbers), (step.args, step.kwargs))
        digest.update(_json([type(step.operation).__module__, type(step.operation).__qualname__, arguments]))
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


def canonical_config(operation: Any) -> Any:
    """A layer's configuration without names, seeds and initialisers."""
    try:
        return _strip(operation.get_config())
    except NotImplementedError:  # an operation with arguments of unknown kinds: its plain attributes say which
        return _strip({key: value for key, value in vars(operation).items() if not key.startswith("_")})


def _strip(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): _strip(item)
            for key, item in value.items()
            if str(key) not in _IGNORED and not str(key).endswith(_IGNORED_SUFFIXES)
        }
    return [_strip(item) for item in value] if isinstance(value, list | tuple) else value


def _argument(leaf: Any, numbers: Mapping[int, int]) -> Any:
    if isinstance(leaf, keras.KerasTensor):
        return f"tensor {numbers.get(id(leaf), 'constant')}"
    return leaf if isinstance(leaf, str | int | float | bool | type(None)) else _array_hash(leaf)


def _array_hash(value: Any) -> str:
    if keras.ops.is_tensor(value) or isinstance(value, np.ndarray):
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(value))
        return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
    return repr(value)


def _update(digest: Any, variable: Any) -> None:
    array = np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value))
    digest.update(_json([str(variable.dtype), list(array.shape)]))
    digest.update(array.view(np.uint8).reshape(-1) if array.size else b"")


def _backend_version(backend: str) -> str:
    from importlib.metadata import version

    return version(backend)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=repr).encode()
