"""The Open Inference Protocol V2 over HTTP, with binary data and Triton's statistics, config and repository index."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kerasxfer_serving import __version__
from kerasxfer_serving.image_io.decoding import Source
from kerasxfer_serving.server import tensors
from kerasxfer_serving.server.context import body_of, gone, server_of
from kerasxfer_serving.server.errors import RequestError
from kerasxfer_serving.server.json_bodies import JsonResponse, decode_json, from_base64
from kerasxfer_serving.server.models import ServedModel
from kerasxfer_serving.server.tensors import Tensor, TensorSpec, Wanted

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics")
_HEADER = "inference-header-content-length"
_MICROSECONDS = 1e6

_Parameters = dict[str, bool | int | float | str]


class _Input(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: _Parameters | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Output(msgspec.Struct):
    name: str
    parameters: _Parameters | None = None


class _InferRequest(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: list[_Output] | None = None


async def infer(request: Request) -> Response:
    """Classify the images of a request."""
    server, model = server_of(request), model_of(request)
    body = await body_of(request)
    header, binary = _split_body(request, body)
    asked = decode_json(header, _InferRequest)
    parameters = asked.parameters or {}
    wanted = _wanted(asked, parameters, model)
    images = _images(asked.inputs, model, binary, server.options.max_images)
    predictions = await server.predict(model, images, timeout=timeout_of(parameters), gone=gone(request))
    return _answer(model, asked.id, tensors.outputs(predictions, wanted))


async def live(request: Request) -> Response:
    """Whether the process works."""
    return JsonResponse({"live": True})


async def ready(request: Request) -> Response:
    """Whether the server takes requests."""
    is_ready = server_of(request).ready
    return JsonResponse({"ready": is_ready}, 200 if is_ready else 503)


async def model_ready(request: Request) -> Response:
    """Whether a model takes requests."""
    model, is_ready = model_of(request), server_of(request).ready
    return JsonResponse({"name": model.name, "ready": is_ready}, 200 if is_ready else 503)


async def server_metadata(request: Request) -> Response:
    """Name, version and extensions of the server."""
    return JsonResponse({"name": "kerasxfer-serving", "version": __version__, "extensions": EXTENSIONS})


async def model_metadata(request: Request) -> Response:
    """Inputs and outputs of a model."""
    model = model_of(request)
    return JsonResponse(
        {
            "name": model.name,
            "versions": server_of(request).registry.versions(model.name),
            "platform": platform(model),
            "inputs": [spec._asdict() for spec in tensors.input_specs(model)],
            "outputs": [spec._asdict() for spec in tensors.output_specs(model)],
        }
    )


async def model_config(request: Request) -> Response:
    """What Triton calls a model's configuration, with classes and hash as parameters."""
    return JsonResponse(config(model_of(request)))


async def model_statistics(request: Request) -> Response:
    """What a model, or every model, has done."""
    models = [model_of(request)] if "model" in request.path_params else server_of(request).registry.models()
    return JsonResponse({"model_stats": [statistics(model) for model in models]})


async def repository_index(request: Request) -> Response:
    """All models with their versions and states."""
    server = server_of(request)
    state = "READY" if server.ready else "UNAVAILABLE"
    return JsonResponse(
        [
            {"name": model.name, "version": model.version, "state": state, "reason": ""}
            for model in server.registry.models()
        ]
    )


def model_of(request: Request) -> ServedModel:
    """The model that a path names."""
    path = request.path_params
    return server_of(request).registry.find(path["model"], path.get("version"))


def timeout_of(parameters: _Parameters) -> float | None:
    """Seconds that a client waits: the protocol's `timeout`, in microseconds."""
    timeout = parameters.get("timeout", 0)
    if not isinstance(timeout, int | float) or timeout < 0:
        raise RequestError(f"`timeout` is a number of microseconds. Received: {timeout!r:.100}")
    return timeout / _MICROSECONDS or None


def platform(model: ServedModel) -> str:
    """What runs a model, and what it is, in the protocol's words."""
    return f"{model.predictor.session.runtime}_onnx"


def config(model: ServedModel) -> dict[str, Any]:
    """A model's configuration in Triton's words."""
    return {
        "name": model.name,
        "platform": platform(model),
        "backend": model.predictor.session.runtime,
        "max_batch_size": 0,
        "input": [_config_tensor(spec) for spec in tensors.input_specs(model)],
        "output": [_config_tensor(spec) for spec in tensors.output_specs(model)],
        "parameters": {
            "class_names": {"string_value": msgspec.json.encode(model.manifest.class_names).decode()},
            "task": {"string_value": model.manifest.task},
            "thresholds": {"string_value": msgspec.json.encode(model.manifest.thresholds).decode()},
            "sha256": {"string_value": model.predictor.sha256},
            "device": {"string_value": model.predictor.device},
            "preferred_batch_size": {"string_value": str(model.max_batch)},
        },
    }


def statistics(model: ServedModel) -> dict[str, Any]:
    """A model's statistics in Triton's words."""
    return {"name": model.name, "version": model.version} | model.statistics.to_dict()


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    kinds = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}
    return {"name": spec.name, "data_type": kinds[spec.datatype], "dims": spec.shape}


def _split_body(request: Request, body: bytes) -> tuple[memoryview, memoryview]:
    """The JSON of a body, and the binary data behind it."""
    text = request.headers.get(_HEADER)
    if text is None:
        return memoryview(body), memoryview(b"")
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or int(text) > len(body):
        raise RequestError(f"Inference-Header-Content-Length is a length within the body. Received: {text!r:.100}")
    view = memoryview(body)
    return view[: int(text)], view[int(text) :]


def _wanted(asked: _InferRequest, parameters: _Parameters, model: ServedModel) -> list[Wanted]:
    binary = parameters.get("binary_data_output") is True
    if not asked.outputs:
        return tensors.all_outputs(model, binary=binary)
    wanted = [_wanted_output(output, binary) for output in asked.outputs]
    tensors.check_wanted(wanted, model)
    return wanted


def _wanted_output(output: _Output, binary: bool) -> Wanted:
    parameters = output.parameters or {}
    return Wanted(output.name, parameters.get("binary_data", binary) is True, tensors.classes_of(parameters))


def _images(inputs: list[_Input], model: ServedModel, binary: memoryview, most: int) -> list[Source]:
    tensors.check_input([item.name for item in inputs], model)
    (given,) = inputs
    size = (given.parameters or {}).get("binary_data_size")
    if size is None:
        return _images_of_json(given, most)
    if not isinstance(size, int) or size != len(binary):
        raise RequestError(f"`binary_data_size` is {size!r:.100}; {len(binary):,} bytes follow the JSON.")
    match given.datatype:
        case "BYTES":
            return tensors.images_of_strings(tensors.split_strings(binary, most), given.shape, most)
        case "UINT8":
            return tensors.images_of_pixels(np.frombuffer(binary, np.uint8), given.shape, most)
    raise tensors.unknown_datatype(given.datatype)


def _images_of_json(given: _Input, most: int) -> list[Source]:
    if not bytes(given.data):
        raise RequestError(f"`{given.name}` has neither `data` nor binary data.")
    match given.datatype:
        case "BYTES":
            texts = list(_flatten(decode_json(given.data, list[str | list[str]], f"`{given.name}`")))
            elements = [from_base64(text, f"{tensors.IMAGES}[{index}]") for index, text in enumerate(texts)]
            return tensors.images_of_strings(elements, given.shape, most)
        case "UINT8":
            values = decode_json(given.data, list[Any], f"`{given.name}`")
            return tensors.images_of_pixels(tensors.pixels_of_numbers(values), given.shape, most)
    raise tensors.unknown_datatype(given.datatype)


def _flatten(data: list[str | list[str]]) -> Iterator[str]:
    for item in data:
        if isinstance(item, str):
            yield item
        else:
            yield from item


def _answer(model: ServedModel, request_id: str | None, found: list[tuple[Wanted, Tensor]]) -> Response:
    described: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for wanted, tensor in found:
        entry: dict[str, Any] = tensor.spec._asdict()
        if wanted.binary:
            blobs.append(tensor.to_bytes())
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = tensor.to_list()
        described.append(entry)
    answer: dict[str, Any] = {"model_name": model.name, "model_version": model.version, "outputs": described}
    if request_id is not None:
        answer["id"] = request_id
    if not blobs:
        return JsonResponse(answer)
    header = msgspec.json.encode(answer)
    return Response(
        b"".join([header, *blobs]),
        headers={"Inference-Header-Content-Length": str(len(header))},
        media_type="application/octet-stream",
    )


def routes() -> list[Route]:
    """The protocol's paths, the busiest first."""
    model = "/v2/models/{model}"
    version = f"{model}/versions/{{version}}"
    lookups = {"ready": model_ready, "config": model_config, "stats": model_statistics}
    return [
        *(Route(f"{base}/infer", infer, methods=["POST"]) for base in (model, version)),
        *(Route(f"{base}/{name}", endpoint) for name, endpoint in lookups.items() for base in (model, version)),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/models/stats", model_statistics),
        Route("/v2/repository/index", repository_index, methods=["POST"]),
        Route(version, model_metadata),
        Route(model, model_metadata),
        Route("/v2", server_metadata),
    ]
