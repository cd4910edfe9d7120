"""ONNX files from anywhere: refused, or parsed from the very bytes that were checked.

ONNX lets a file name other files (external data, compiled contexts) and operators from libraries, and lets functions
call functions. A file that does the first could read what it should not, and one that does the last can say in a
kilobyte what takes all memory, so they are refused here, before ONNX Runtime sees the bytes.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kerasxfer_serving.errors import ModelError

# ONNX itself, and the operators inside ONNX Runtime that quantised and fused graphs use.
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_OPERATORS_THAT_READ_FILES = frozenset({"EPContext"})
_MAX_BYTES = (2 << 30) - 1  # protobuf's own limit; a larger model needs external data
_MAX_NODES = 1_000_000


class OnnxFile(NamedTuple):
    """A file that passed the checks of `read_onnx`.

    Args:
        path: Where it was read from.
        data: Its bytes.
        sha256: SHA-256 of `data`.
        proto: The parsed `onnx.ModelProto`.
    """

    path: Path
    data: bytes
    sha256: str
    proto: Any


def read_onnx(path: str | Path, *, sha256: str | None = None) -> OnnxFile:
    """Read and check a file.

    Args:
        path: An `.onnx` file.
        sha256: The hash that the file must have, verified before anything is parsed. Defaults to `None`, not verified.

    Raises:
        ModelError: The file cannot be read, is not the one meant, is not ONNX, reaches outside itself, uses operators
            of an unknown domain, or unfolds to a graph beyond all measure.
    """
    path = Path(path)
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.strip().lower():
        raise ModelError(f"`{path}` is not the expected file: its SHA-256 is {digest}. Received: sha256={sha256!r}")
    proto = _parse(path, data)
    _refuse_what_reaches_outside(path, proto)
    _refuse_endless_functions(path, proto)
    return OnnxFile(path, data, digest, proto)


def messages(proto: Any) -> Iterator[Any]:
    """A protobuf message and every message inside it, wherever: graphs in attributes, in functions, in training info.

    Tensors are not looked into: what they hold is weights.
    """
    todo = [proto]
    while todo:
        message = todo.pop()
        yield message
        if message.DESCRIPTOR.name == "TensorProto":
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                todo.extend([value] if hasattr(value, "DESCRIPTOR") else value)


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ModelError(f"The model file `{path}` does not exist.")
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise ModelError(f"A self-contained ONNX file has less than 2 GiB. Received: `{path}` with {size:,} bytes.")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise ModelError(f"`{path}` cannot be read: {getattr(error, 'strerror', None) or error}.") from error


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


def _refuse_what_reaches_outside(path: Path, proto: Any) -> None:
    own_functions = {(function.domain, function.name) for function in proto.functions}
    for message in messages(proto):
        _refuse_names_that_are_no_text(path, message)
        match message.DESCRIPTOR.name:
            case "TensorProto":
                _refuse_external_data(path, message)
            case "NodeProto":
                _refuse_unknown_operator(path, message, own_functions)


def _refuse_names_that_are_no_text(path: Path, message: Any) -> None:
    """Protobuf gives bytes for a string that is not UTF-8, which nothing that reads names expects."""
    if message.DESCRIPTOR.name == "TensorProto":
        return
    for field, value in message.ListFields():
        texts = [value] if isinstance(value, str | bytes) else value
        is_name = field.type == field.TYPE_STRING and field.name != "doc_string"
        if is_name and any(isinstance(text, bytes) for text in texts):
            raise ModelError(f"`{path}` is not an ONNX file: a `{field.name}` in it is not UTF-8.")


def _refuse_external_data(path: Path, tensor: Any) -> None:
    import onnx

    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        location = {entry.key: entry.value for entry in tensor.external_data}.get("location")
        raise ModelError(
            f"`{path}` keeps the tensor `{tensor.name}` in another file, which is refused. Received: "
            f"location={location!r:.200}. Save the model as one file: "
            "`onnx.save_model(onnx.load(path), path, save_as_external_data=False)`."
        )


def _refuse_unknown_operator(path: Path, node: Any, own_functions: set[tuple[str, str]]) -> None:
    if node.op_type in _OPERATORS_THAT_READ_FILES:
        raise ModelError(f"`{path}` uses the operator `{node.op_type}`, which reads other files: refused.")
    if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in own_functions:
        raise ModelError(
            f"`{path}` uses operators from outside ONNX and ONNX Runtime. Received: operator `{node.op_type}` "
            f"of domain {node.domain!r}. Known domains: {sorted(KNOWN_DOMAINS)}."
        )


def _refuse_endless_functions(path: Path, proto: Any) -> None:
    """Refuse functions that call themselves, or each other so often that unfolding them would not end."""
    calls = {(body.domain, body.name): [_operator(node) for node in _nodes(body)] for body in proto.functions}
    sizes: dict[tuple[str, str], int] = {}
    for name in _callees_first(path, calls):
        sizes[name] = sum(sizes.get(operator, 1) for operator in calls[name])
        if sizes[name] > _MAX_NODES:
            break
    nodes = sum(sizes.get(_operator(node), 1) for node in _nodes(proto.graph))
    if max(nodes, *sizes.values(), 0) > _MAX_NODES:
        raise ModelError(f"`{path}` has functions that unfold to more than {_MAX_NODES:,} operators: refused.")


def _callees_first(path: Path, calls: dict[tuple[str, str], list[tuple[str, str]]]) -> Iterator[tuple[str, str]]:
    done: set[tuple[str, str]] = set()
    for start in calls:
        open_calls = [(start, iter(calls[start]))]
        in_work = {start}
        while open_calls and start not in done:
            name, operators = open_calls[-1]
            callee = next((one for one in operators if one in calls and one not in done), None)
            if callee is None:
                open_calls.pop()
                in_work.discard(name)
                done.add(name)
                yield name
            elif callee in in_work:
                raise ModelError(f"`{path}` has a function that calls itself, `{callee[1]}`: refused.")
            else:
                in_work.add(callee)
                open_calls.append((callee, iter(calls[callee])))


def _nodes(body: Any) -> Iterator[Any]:
    return (message for message in messages(body) if message.DESCRIPTOR.name == "NodeProto")


def _operator(node: Any) -> tuple[str, str]:
    return node.domain, node.op_type
