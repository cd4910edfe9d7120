"""What cached features depend on, as one hash: the prefix with its weights, the images' way into it, the platform."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerasxfer.bottleneck.graph import Graph
from kerasxfer.bottleneck.layer_code import code_hash

FORMAT_VERSION = 2

# What Keras notes about an object besides its arguments. Automatic names would make the second model built in a process
# another one; `trainable` says nothing where all is frozen.
_BOOKKEEPING = {"name", "trainable", "build_config", "compile_config"}
# Arguments of Keras's own layers that say nothing about results: weights are hashed themselves, seeds set by the cache.
_WITHOUT_EFFECT = ("seed", "_initializer", "_regularizer", "_constraint")


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
