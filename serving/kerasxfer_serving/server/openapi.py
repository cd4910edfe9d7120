"""The OpenAPI 3.1 document of the HTTP interface."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kerasxfer_serving import __version__
from kerasxfer_serving.model.task import TASKS

_REFUSALS = {
    400: "The request is not as it must be, or its image cannot be read.",
    401: "The server needs a token.",
    404: "There is no such model or version.",
    408: "The request came too slowly.",
    413: "The request has too many bytes or images.",
    415: "The Content-Encoding is not known.",
    500: "The server failed.",
    503: "The server has as much work as it accepts, or is about to stop: retry.",
    504: "The answer was not there in time.",
}


class Operation(NamedTuple):
    """One path with one method, as far as it differs from the others."""

    method: str
    path: str
    group: str
    summary: str
    answer: str
    body: Mapping[str, Any] | None = None
    query: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (401, 500)


def _of_model(method: str, path: str, *rest: Any, **more: Any) -> list[Operation]:
    """The operation on the newest version of a model, and on one by number."""
    return [Operation(method, path.replace("{version}", part), *rest, **more) for part in ("", "/versions/{version}")]


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_IMAGES = {
    "application/octet-stream": _BINARY,
    "image/*": _BINARY,
    "multipart/form-data": {
        "schema": {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}, "minProperties": 1}
    },
    **_json("Images"),
}
_PREDICTING = (400, 401, 404, 408, 413, 415, 500, 503, 504)
_LOOKING_UP = (401, 404, 500)

OPERATIONS: list[Operation] = [
    Operation(
        "post",
        "/predict",
        "Predict",
        "Classify images: one row each.",
        "Predictions",
        _IMAGES,
        ("model", "version", "top_k"),
        _PREDICTING,
    ),
    Operation(
        "post",
        "/predict/{model}",
        "Predict",
        "Classify images with a model.",
        "Predictions",
        _IMAGES,
        ("version", "top_k"),
        _PREDICTING,
    ),
    *_of_model(
        "post",
        "/v2/models/{model}{version}/infer",
        "Open Inference Protocol V2",
        "Classify the images of the tensor `images`.",
        "InferResponse",
        {**_json("InferRequest"), "application/octet-stream": _BINARY},
        statuses=_PREDICTING,
    ),
    *_of_model(
        "get",
        "/v2/models/{model}{version}",
        "Open Inference Protocol V2",
        "Inputs and outputs of a model.",
        "ModelMetadata",
        statuses=_LOOKING_UP,
    ),
    *_of_model(
        "get",
        "/v2/models/{model}{version}/ready",
        "Open Inference Protocol V2",
        "Whether a model takes requests.",
        "ModelReady",
        statuses=(*_LOOKING_UP, 503),
    ),
    *_of_model(
        "get",
        "/v2/models/{model}{version}/config",
        "Open Inference Protocol V2",
        "A model's configuration.",
        "Object",
        statuses=_LOOKING_UP,
    ),
    *_of_model(
        "get",
        "/v2/models/{model}{version}/stats",
        "Open Inference Protocol V2",
        "What a model has done.",
        "Statistics",
        statuses=_LOOKING_UP,
    ),
    Operation("get", "/v2/models/stats", "Open Inference Protocol V2", "What all models have done.", "Statistics"),
    Operation("post", "/v2/repository/index", "Open Inference Protocol V2", "All models and versions.", "Index"),
    Operation("get", "/v2", "Open Inference Protocol V2", "Name, version and extensions.", "ServerMetadata"),
    Operation("get", "/v2/health/live", "Probes", "Whether the process works.", "Live", statuses=(500,)),
    Operation("get", "/v2/health/ready", "Probes", "Whether requests are welcome.", "Ready", statuses=(500, 503)),
    Operation("get", "/ping", "Probes", "TorchServe's and SageMaker's probe.", "Status", statuses=(500, 503)),
    Operation(
        "post",
        "/predictions/{model}",
        "Other servers' paths",
        "TorchServe: the most probable classes.",
        "TopClasses",
        _IMAGES,
        statuses=_PREDICTING,
    ),
    Operation(
        "post",
        "/predictions/{model}/{version}",
        "Other servers' paths",
        "TorchServe, a version.",
        "TopClasses",
        _IMAGES,
        statuses=_PREDICTING,
    ),
    Operation("get", "/models", "Other servers' paths", "TorchServe: the models.", "Object"),
    *_of_model(
        "post",
        "/v1/models/{model}{version}:predict",
        "Other servers' paths",
        "TensorFlow Serving and KServe V1: probabilities.",
        "TensorFlowResponse",
        _json("TensorFlowRequest"),
        statuses=_PREDICTING,
    ),
    *_of_model(
        "get",
        "/v1/models/{model}{version}",
        "Other servers' paths",
        "TensorFlow Serving and KServe V1: state.",
        "Object",
        statuses=_LOOKING_UP,
    ),
    *_of_model(
        "get",
        "/v1/models/{model}{version}/metadata",
        "Other servers' paths",
        "TensorFlow Serving: metadata.",
        "Object",
        statuses=_LOOKING_UP,
    ),
    Operation("get", "/v1/models", "Other servers' paths", "KServe V1: the models.", "Object"),
    Operation(
        "post",
        "/invocations",
        "Other servers' paths",
        "SageMaker: as `/predict`.",
        "Predictions",
        _IMAGES,
        ("model", "version", "top_k"),
        _PREDICTING,
    ),
]


def document(models: Mapping[str, Sequence[str]], root_path: str = "") -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        models: Versions of the served models, by name.
        root_path: Where the server is mounted. Defaults to the root.
    """
    names = {
        "model": {"type": "string", "enum": list(models)},
        "version": {
            "type": "string",
            "enum": sorted({version for versions in models.values() for version in versions}),
        },
        "top_k": {"type": "integer", "minimum": 1, "maximum": 999_999},
    }
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": "kerasxfer-serving", "version": __version__, "description": "Image classifiers, answering."},
        "servers": [{"url": root_path or "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}, "schemas": SCHEMAS},
    }


def _describe(operation: Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    named = [name for name in schemas if f"{{{name}}}" in operation.path]
    parameters = [{"name": name, "in": "path", "required": True, "schema": schemas[name]} for name in named]
    parameters += [{"name": name, "in": "query", "schema": schemas[name]} for name in operation.query]
    described: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.group],
        "parameters": parameters,
        "responses": {
            "200": {"description": "The answer.", "content": _answer(operation)},
            **{str(status): _refusal(operation, status) for status in operation.statuses},
        },
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": dict(operation.body)}
    return described


def _answer(operation: Operation) -> dict[str, Any]:
    answer = _json(operation.answer)
    return {**answer, "application/octet-stream": _BINARY} if operation.answer == "InferResponse" else answer


def _refusal(operation: Operation, status: int) -> dict[str, Any]:
    states = {"/v2/health/ready": "Ready", "/ping": "Status"}
    schema = "ModelReady" if operation.answer == "ModelReady" else states.get(operation.path, "Error")
    return {"description": _REFUSALS[status], "content": _json(schema if status == 503 else "Error")}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return schema | {"required": required.split()} if required else schema


def _array(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}


_TEXT, _NUMBER, _WHOLE, _FLAG = ({"type": kind} for kind in ("string", "number", "integer", "boolean"))
_BASE64 = {"type": "string", "contentEncoding": "base64"}
_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["boolean", "integer", "number", "string"]}}
_SPEC = _object("name datatype shape", name=_TEXT, datatype=_TEXT, shape=_array(_WHOLE))
_ROW = _object(
    "path status message",
    path=_TEXT,
    status={"type": "string", "description": "`ok`, or the code of what is wrong."},
    message=_TEXT,
    labels={
        "type": ["array", "null"],
        "items": _TEXT,
        "description": "Of a multi-label model: the classes that reach their thresholds, most probable first.",
    },
    label={"type": ["string", "null"]},
    probability={"type": ["number", "null"]},
    width={"type": ["integer", "null"]},
    height={"type": ["integer", "null"]},
    probabilities={"type": ["array", "null"], "items": _NUMBER},
)
_TOP_CLASSES = {"type": "object", "additionalProperties": _NUMBER}

SCHEMAS: dict[str, Any] = {
    "Error": _object("error", error=_TEXT),
    "Object": {"type": "object"},
    "Images": _object("images", images={**_array(_BASE64), "minItems": 1}),
    "Predictions": _object(
        "model version class_names predictions",
        model=_TEXT,
        version=_TEXT,
        class_names=_array(_TEXT),
        task={"enum": list(TASKS)},
        thresholds={**_array(_NUMBER), "description": "Of a multi-label model, one for each class."},
        predictions=_array(_ROW),
    ),
    "InferRequest": _object(
        "inputs",
        id=_TEXT,
        parameters=_PARAMETERS,
        inputs={
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": _object(
                "name datatype shape",
                name={"type": "string", "description": "`images`, or the name in the graph."},
                datatype={"enum": ["BYTES", "UINT8"]},
                shape=_array({"type": "integer", "minimum": 0}),
                parameters=_PARAMETERS,
                data={
                    "type": "array",
                    "description": "BYTES: base64 of encoded images, [n]. UINT8: pixels, [n, height, width, 3].",
                },
            ),
        },
        outputs=_array(_object("name", name={"enum": ["probabilities", "label", "labels"]}, parameters=_PARAMETERS)),
    ),
    "InferResponse": _object(
        "model_name model_version outputs",
        id=_TEXT,
        model_name=_TEXT,
        model_version=_TEXT,
        outputs=_array(
            _object(
                "name datatype shape",
                name=_TEXT,
                datatype=_TEXT,
                shape=_array(_WHOLE),
                parameters=_PARAMETERS,
                data=_array({"type": ["number", "string"]}),
            )
        ),
    ),
    "ModelMetadata": _object(
        "name versions platform inputs outputs",
        name=_TEXT,
        versions=_array(_TEXT),
        platform=_TEXT,
        inputs=_array(_SPEC),
        outputs=_array(_SPEC),
    ),
    "ModelReady": _object("name ready", name=_TEXT, ready=_FLAG),
    "ServerMetadata": _object("name version extensions", name=_TEXT, version=_TEXT, extensions=_array(_TEXT)),
    "Statistics": _object("model_stats", model_stats=_array(_object("name version", name=_TEXT, version=_TEXT))),
    "Index": _array(_object("name version state reason", name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)),
    "Live": _object("live", live=_FLAG),
    "Ready": _object("ready", ready=_FLAG),
    "Status": _object("status", status=_TEXT),
    "TopClasses": {"oneOf": [_TOP_CLASSES, _array(_TOP_CLASSES)]},
    "TensorFlowRequest": _object(instances=_array(_object("b64", b64=_BASE64)), inputs={}, signature_name=_TEXT),
    "TensorFlowResponse": _object(predictions=_array(_array(_NUMBER)), outputs=_array(_array(_NUMBER))),
}
