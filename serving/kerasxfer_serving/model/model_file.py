"""Model files: the bytes that were checked, and what they say about themselves."""

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kerasxfer_serving.model.manifest import Manifest, find_manifest
from kerasxfer_serving.model.onnx_file import messages, read_onnx

if TYPE_CHECKING:
    import onnx


class TensorInfo(NamedTuple):
    """Name, element type and shape of an input or output; an open dimension is its name or `None`."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class ModelFile:
    """A model file that passed the checks of `load_model_file`.

    Args:
        path: Where it was read from.
        data: Its bytes. Build the session from these: the file on disk may have changed since.
        sha256: SHA-256 of `data`.
        manifest: The manifest inside, else of the sidecar `<path>.json`, else `None`.
        inputs: The graph's inputs.
        outputs: The graph's outputs.
        proto: The parsed `onnx.ModelProto`.
    """

    path: Path
    data: bytes = field(repr=False)
    sha256: str
    manifest: Manifest | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    proto: Any = field(repr=False)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.data)

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """Node, parameter and operator counts of the graph."""
        return graph_statistics(self.proto)

    def to_dict(self) -> dict[str, Any]:
        """Facts about the file, as plain data for JSON."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "size": self.size,
            "inputs": [tensor._asdict() for tensor in self.inputs],
            "outputs": [tensor._asdict() for tensor in self.outputs],
            "statistics": self.statistics,
            "manifest": self.manifest and self.manifest.to_dict(),
        }


def load_model_file(path: str | Path, *, sha256: str | None = None) -> ModelFile:
    """Read and check a model file.

    Args:
        path: An `.onnx` file.
        sha256: The hash that the file must have, verified before anything is parsed. Defaults to `None`, not verified.

    Returns:
        A `ModelFile`.

    Raises:
        ModelError: The file cannot be read, has another hash, is not ONNX, refers to other files, uses operators of an
            unknown domain or carries a malformed manifest.
    """
    path, data, digest, proto = read_onnx(path, sha256=sha256)
    initializers = {tensor.name for tensor in proto.graph.initializer}
    return ModelFile(
        path=path,
        data=data,
        sha256=digest,
        manifest=find_manifest(path, proto),
        inputs=tuple(_tensor_info(value) for value in proto.graph.input if value.name not in initializers),
        outputs=tuple(_tensor_info(value) for value in proto.graph.output),
        proto=proto,
    )


def graph_statistics(proto: "onnx.ModelProto") -> dict[str, Any]:
    """Size figures of an `onnx.ModelProto`'s graph.

    Args:
        proto: An `onnx.ModelProto`.

    Returns:
        A dict with `nodes`, `parameters`, `opset`, `producer` and `operators` (a count for each, most frequent first).
    """
    graphs = [message for message in messages(proto) if message.DESCRIPTOR.name == "GraphProto"]
    operators = Counter(node.op_type for graph in graphs for node in graph.node)
    parameters = sum(math.prod(tensor.dims) for graph in graphs for tensor in graph.initializer)
    opsets = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    return {
        "nodes": operators.total(),
        "parameters": parameters,
        "opset": opsets.get("ai.onnx"),
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
        "operators": dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
    }


def _tensor_info(value: Any) -> TensorInfo:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None) for dim in kind.shape.dim)
    return TensorInfo(value.name, _dtype(value.type), shape)


def _dtype(kind: Any) -> str:
    """Name of a tensor's element type, or of what else a value is: `sequence`, `map`, …"""
    import onnx

    which = kind.WhichOneof("value")
    if which != "tensor_type":
        return str(which or "undefined").removesuffix("_type")
    try:
        return str(onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type)).lower()
    except ValueError:
        return f"type {kind.tensor_type.elem_type}"
