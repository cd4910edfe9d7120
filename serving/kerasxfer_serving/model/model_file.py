"""Model files from anywhere: refused, or read as the very bytes that were checked.

ONNX lets a file name other files (external data, compiled contexts) and operators from libraries. A file that does
either could read what it should not, so both are refused here, before ONNX Runtime sees the bytes.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest

# ONNX itself, and the operators inside ONNX Runtime that quantised and fused graphs use.
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_OPERATORS_THAT_READ_FILES = frozenset({"EPContext"})
_MAX_BYTES = (2 << 30) - 1  # protobuf's own limit; a larger model needs external data


class TensorInfo(NamedTuple):
    """Name, element type and shape of an input or output; an open dimension is its name or `None`."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class ModelFile:
    """A model file that passed the checks of `load_model_file`.

    Args:
        path: where it was read from.
        data: its bytes. Build the session from these: the file on disk may have changed since.
        sha256: SHA-256 of `data`.
        manifest: the manifest inside, else of the sidecar `<path>.json`, else `None`.
        inputs: the graph's inputs.
        outputs: the graph's outputs.
        proto: the parsed `onnx.ModelProto`.
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
        """What there is to know about the file, as plain data for JSON."""
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
        path: an `.onnx` file.
        sha256: the hash that the file must have, verified before anything is parsed. Defaults to `None`, not verified.

    Returns:
        A `ModelFile`.

    Raises:
        ModelError: the file cannot be read, is not the one meant, is not ONNX, reaches outside itself, uses operators
            of an unknown domain or carries a malformed manifest.
    """
    path = Path(path)
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.strip().lower():
        raise ModelError(f"`{path}` is not the file meant: its SHA-256 is {digest}. Received: sha256={sha256!r}")
    proto = _parse(path, data)
    _refuse_external_data(path, proto)
    _refuse_unknown_operators(path, proto)
    initializers = {tensor.name for tensor in proto.graph.initializer}
    return ModelFile(
        path=path,
        data=data,
        sha256=digest,
        manifest=_manifest(path, proto),
        inputs=tuple(_tensor_info(value) for value in proto.graph.input if value.name not in initializers),
        outputs=tuple(_tensor_info(value) for value in proto.graph.output),
        proto=proto,
    )


def graph_statistics(proto: Any) -> dict[str, Any]:
    """Size figures of an `onnx.ModelProto`'s graph.

    Args:
        proto: an `onnx.ModelProto`.

    Returns:
        A dict with `nodes`, `parameters`, `opset`, `producer` and `operators` (a count for each, most frequent first).
    """
    operators = Counter(node.op_type for graph in _graphs(proto) for node in graph.node)
    parameters = sum(_elements(tensor) for graph in _graphs(proto) for tensor in graph.initializer)
    opsets = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    return {
        "nodes": operators.total(),
        "parameters": parameters,
        "opset": opsets.get("ai.onnx"),
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
        "operators": dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
    }


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ModelError(f"There is no model file `{path}`.")
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise ModelError(f"A self-contained ONNX file has less than 2 GiB. Received: `{path}` with {size:,} bytes.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"`{path}` cannot be read: {error.strerror}.") from error


def _parse(path: Path, data: bytes) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(f"`{path}` is not an ONNX file: {error}.") from None
    if not proto.graph.node or not proto.opset_import:  # an empty file parses, as an empty model
        raise ModelError(f"`{path}` is not an ONNX file: it holds no graph.")
    return proto


def _refuse_external_data(path: Path, proto: Any) -> None:
    import onnx

    for tensor in _tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            location = {entry.key: entry.value for entry in tensor.external_data}.get("location")
            raise ModelError(
                f"`{path}` keeps the tensor `{tensor.name}` in another file, which is refused. Received: "
                f"location={location!r:.200}. Save the model as one file: "
                "`onnx.save_model(onnx.load(path), path, save_as_external_data=False)`."
            )


def _refuse_unknown_operators(path: Path, proto: Any) -> None:
    own_functions = {(function.domain, function.name) for function in proto.functions}
    for body in (*_graphs(proto), *proto.functions):
        for node in body.node:
            if node.op_type in _OPERATORS_THAT_READ_FILES:
                raise ModelError(f"`{path}` uses the operator `{node.op_type}`, which reads other files: refused.")
            if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in own_functions:
                raise ModelError(
                    f"`{path}` uses operators from outside ONNX and ONNX Runtime. Received: operator `{node.op_type}` "
                    f"of domain {node.domain!r}. Known domains: {sorted(KNOWN_DOMAINS)}."
                )


def _manifest(path: Path, proto: Any) -> Manifest | None:
    texts = [entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY]
    sidecar = path.with_name(f"{path.name}.json")
    try:
        match texts:
            case [text]:
                return Manifest.from_json(text)
            case []:
                return Manifest.from_json(sidecar.read_bytes()) if sidecar.is_file() else None
    except ModelError as error:
        raise ModelError(f"`{path if texts else sidecar}`: {error}") from None
    raise ModelError(f"`{path}` has {len(texts)} manifests; a model file has one.")


def _graphs(proto: Any) -> Iterator[Any]:
    """Every graph of the model: the main one, training graphs, and those inside `If`, `Loop` and `Scan`."""
    training = (graph for info in proto.training_info for graph in (info.initialization, info.algorithm))
    todo = [proto.graph, *training]
    for function in proto.functions:
        todo.extend(_subgraphs(function))
    while todo:
        graph = todo.pop()
        yield graph
        todo.extend(_subgraphs(graph))


def _subgraphs(body: Any) -> Iterator[Any]:
    for node in body.node:
        for attribute in node.attribute:
            yield from attribute.graphs
            if attribute.HasField("g"):
                yield attribute.g


def _tensors(proto: Any) -> Iterator[Any]:
    for graph in _graphs(proto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for body in (*_graphs(proto), *proto.functions):
        for node in body.node:
            for attribute in node.attribute:
                yield from _attribute_tensors(attribute)
    for function in proto.functions:
        for attribute in function.attribute_proto:
            yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: Any) -> Iterator[Any]:
    yield from (attribute.t, *attribute.tensors)
    for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
        yield from (sparse.values, sparse.indices)


def _elements(tensor: Any) -> int:
    count = 1
    for dimension in tensor.dims:
        count *= dimension
    return count


def _tensor_info(value: Any) -> TensorInfo:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None) for dim in kind.shape.dim)
    return TensorInfo(value.name, onnx.TensorProto.DataType.Name(kind.elem_type).lower(), shape)
