"""The messages of the inference protocol's gRPC service, made from a table: no generated code to keep up to date."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
_TYPES = {
    "bool": 8,
    "bytes": 12,
    "double": 1,
    "float": 2,
    "int32": 5,
    "int64": 3,
    "string": 9,
    "uint32": 13,
    "uint64": 4,
}
_MESSAGE, _REPEATED = 11, 3

# Number, type and name of every field; `*` repeats it, `map:X` is a map from strings to X, `|` a member of a oneof.
_MESSAGES: Mapping[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "1 bool live",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "1 bool ready",
    "ModelReadyRequest": "1 string name, 2 string version",
    "ModelReadyResponse": "1 bool ready",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "1 string name, 2 string version, 3 *string extensions",
    "ModelMetadataRequest": "1 string name, 2 string version",
    "TensorMetadata": "1 string name, 2 string datatype, 3 *int64 shape",
    "ModelMetadataResponse": (
        "1 string name, 2 *string versions, 3 string platform, 4 *TensorMetadata inputs, 5 *TensorMetadata outputs"
    ),
    "InferParameter": (
        "1 |bool bool_param, 2 |int64 int64_param, 3 |string string_param, 4 |double double_param, "
        "5 |uint64 uint64_param"
    ),
    "InferTensorContents": (
        "1 *bool bool_contents, 2 *int32 int_contents, 3 *int64 int64_contents, 4 *uint32 uint_contents, "
        "5 *uint64 uint64_contents, 6 *float fp32_contents, 7 *double fp64_contents, 8 *bytes bytes_contents"
    ),
    "InferInputTensor": (
        "1 string name, 2 string datatype, 3 *int64 shape, 4 map:InferParameter parameters, "
        "5 InferTensorContents contents"
    ),
    "InferRequestedOutputTensor": "1 string name, 2 map:InferParameter parameters",
    "InferOutputTensor": (
        "1 string name, 2 string datatype, 3 *int64 shape, 4 map:InferParameter parameters, "
        "5 InferTensorContents contents"
    ),
    "ModelInferRequest": (
        "1 string model_name, 2 string model_version, 3 string id, 4 map:InferParameter parameters, "
        "5 *InferInputTensor inputs, 6 *InferRequestedOutputTensor outputs, 7 *bytes raw_input_contents"
    ),
    "ModelInferResponse": (
        "1 string model_name, 2 string model_version, 3 string id, 4 map:InferParameter parameters, "
        "5 *InferOutputTensor outputs, 6 *bytes raw_output_contents"
    ),
    "RepositoryIndexRequest": "1 string repository_name, 2 bool ready",
    "ModelIndex": "1 string name, 2 string version, 3 string state, 4 string reason",
    "RepositoryIndexResponse": "1 *ModelIndex models",
    "ModelConfigRequest": "1 string name, 2 string version",
    "ConfigInput": "1 string name, 2 int32 data_type, 4 *int64 dims",
    "ConfigOutput": "1 string name, 2 int32 data_type, 3 *int64 dims",
    "ConfigParameter": "1 string string_value",
    "ModelConfig": (
        "1 string name, 2 string platform, 17 string backend, 4 int32 max_batch_size, 5 *ConfigInput input, "
        "6 *ConfigOutput output, 14 map:ConfigParameter parameters"
    ),
    "ModelConfigResponse": "1 ModelConfig config",
    "ModelStatisticsRequest": "1 string name, 2 string version",
    "Duration": "1 uint64 count, 2 uint64 ns",
    "InferStatistics": (
        "1 Duration success, 2 Duration fail, 3 Duration queue, 4 Duration compute_input, 5 Duration compute_infer, "
        "6 Duration compute_output"
    ),
    "BatchStatistics": "1 uint64 batch_size, 3 Duration compute_infer",
    "ModelStatistics": (
        "1 string name, 2 string version, 3 uint64 last_inference, 4 uint64 inference_count, "
        "5 uint64 execution_count, 6 InferStatistics inference_stats, 7 *BatchStatistics batch_stats"
    ),
    "ModelStatisticsResponse": "1 *ModelStatistics model_stats",
}


def _pool() -> descriptor_pool.DescriptorPool:
    """A pool of its own: a process may also have a client's generated messages of the same names."""
    file = descriptor_pb2.FileDescriptorProto(name="kerasxfer_inference.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            _add_field(message, *field.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add_field(message: Any, number: str, kind: str, name: str) -> None:
    field = message.field.add(name=name, number=int(number), label=1)
    if kind[0] == "*":
        kind, field.label = kind[1:], _REPEATED
    if kind[0] == "|":
        kind, field.oneof_index = kind[1:], 0
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
    if kind.startswith("map:"):
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, "1", "string", "key")
        _add_field(entry, "2", kind[4:], "value")
        kind, field.label = f"{message.name}.{entry.name}", _REPEATED
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type, field.type_name = _MESSAGE, f".{PACKAGE}.{kind}"


_POOL = _pool()


def message(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
