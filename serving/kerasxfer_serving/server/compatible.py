"""The paths that clients of TorchServe, TensorFlow Serving and KServe V1 call."""

from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kerasxfer_serving.image_io.decoding import Source
from kerasxfer_serving.outputs.predictions import OK, Predictions
from kerasxfer_serving.server.context import body_of, gone, server_of
from kerasxfer_serving.server.errors import RequestError, UnreadableImageError
from kerasxfer_serving.server.json_bodies import JsonResponse, decode_json, from_base64
from kerasxfer_serving.server.models import ServedModel
from kerasxfer_serving.server.predicting import images_of

_TOP = 5  # classes in TorchServe's answer


class _TensorFlowRequest(msgspec.Struct):
    instances: list[Any] | None = None
    inputs: Any = None
    signature_name: str | None = None


async def ping(request: Request) -> Response:
    """TorchServe's and SageMaker's probe."""
    is_ready = server_of(request).ready
    return JsonResponse({"status": "Healthy" if is_ready else "Unhealthy"}, 200 if is_ready else 503)


async def torchserve_predict(request: Request) -> Response:
    """TorchServe: the five most probable classes of one image, or a list of such for several."""
    model = _model(request)
    named = await images_of(request)
    predictions = await _predict(request, model, [image for _, image in named])
    answers = [_best(predictions, row) for row in range(len(predictions))]
    return JsonResponse(answers[0] if len(answers) == 1 else answers)


async def torchserve_models(request: Request) -> Response:
    """TorchServe: the names of the models."""
    return JsonResponse({"models": [{"modelName": name} for name in server_of(request).registry.names()]})


async def tensorflow_predict(request: Request) -> Response:
    """TensorFlow Serving and KServe V1: probabilities of `{"instances": [{"b64": …}]}`, by row or by column."""
    model = _model(request)
    asked = decode_json(await body_of(request), _TensorFlowRequest)
    instances = asked.instances if asked.instances is not None else _column(asked.inputs)
    images = [_instance(instance, f"instances[{index}]") for index, instance in enumerate(instances)]
    predictions = await _predict(request, model, images)
    name = "predictions" if asked.instances is not None else "outputs"
    return JsonResponse({name: predictions.probabilities.tolist()})


async def tensorflow_status(request: Request) -> Response:
    """TensorFlow Serving's state of each version, and KServe V1's readiness."""
    server, model = server_of(request), _model(request)
    version = request.path_params.get("version")
    versions = [version] if version else server.registry.versions(model.name)
    status = {"error_code": "OK", "error_message": ""}
    states = [{"version": version, "state": "AVAILABLE", "status": status} for version in versions]
    return JsonResponse({"name": model.name, "ready": server.ready, "model_version_status": states})


async def tensorflow_metadata(request: Request) -> Response:
    """TensorFlow Serving's metadata, as far as they have a meaning here."""
    model = _model(request)
    spec = {"name": model.name, "signature_name": "serving_default", "version": model.version}
    return JsonResponse({"model_spec": spec, "metadata": {"class_names": model.manifest.class_names}})


async def kserve_models(request: Request) -> Response:
    """KServe V1: the names of the models."""
    return JsonResponse({"models": server_of(request).registry.names()})


def _model(request: Request) -> ServedModel:
    path = request.path_params
    return server_of(request).registry.find(path["model"], path.get("version"))


async def _predict(request: Request, model: ServedModel, images: list[Source]) -> Predictions:
    predictions = await server_of(request).predict(model, images, gone=gone(request))
    for index, (code, message) in enumerate(zip(predictions.status, predictions.messages, strict=True)):
        if code != OK:
            raise UnreadableImageError(f"image {index}: {code}: {message}")
    return predictions


def _best(predictions: Predictions, row: int) -> dict[str, float]:
    order = np.argsort(-predictions.probabilities[row], kind="stable")[:_TOP]
    return {predictions.class_names[column]: float(predictions.probabilities[row, column]) for column in order}


def _column(inputs: Any) -> list[Any]:
    """The images of TensorFlow Serving's columnar form: a list or one image, bare or under the input's name."""
    if isinstance(inputs, dict) and len(inputs) == 1 and "b64" not in inputs:
        (inputs,) = inputs.values()
    match inputs:
        case list():
            return inputs
        case {"b64": str()}:
            return [inputs]
    raise RequestError('A request has `instances`: [{"b64": "<base64>"}, …].')


def _instance(instance: Any, where: str) -> Source:
    """One image: `{"b64": …}`, base64 or pixels in nested lists; bare or under the input's name."""
    if isinstance(instance, dict) and len(instance) == 1 and "b64" not in instance:
        (instance,) = instance.values()
    match instance:
        case str() as text:
            return from_base64(text, where)
        case {"b64": str(text)}:
            return from_base64(text, where)
        case list() as rows:
            return _pixels(rows, where)
    raise RequestError(f'{where} is {{"b64": "<base64>"}}, or pixels [height, width, 3] from 0 to 255.')


def _pixels(rows: list[Any], where: str) -> Source:
    try:
        array = np.array(rows)
    except ValueError:
        array = np.empty(0)  # rows of different lengths
    good = array.dtype.kind in "iuf" and array.ndim == 3 and array.shape[2] == 3 and array.size
    if not good or array.min() < 0 or array.max() > 255 or (array != np.trunc(array)).any():
        raise RequestError(f"{where}: pixels are whole numbers from 0 to 255, [height, width, 3].")
    return array.astype(np.uint8)


def routes() -> list[Route]:
    """All of these paths."""
    model = "/v1/models/{model:str}"
    version = f"{model}/versions/{{version}}"
    return [
        Route("/ping", ping),
        Route("/predictions/{model}", torchserve_predict, methods=["POST"]),
        Route("/predictions/{model}/{version}", torchserve_predict, methods=["POST"]),
        Route("/models", torchserve_models),
        Route("/v1/models", kserve_models),
        *(Route(f"{base}:predict", tensorflow_predict, methods=["POST"]) for base in (version, model)),
        *(Route(f"{base}/metadata", tensorflow_metadata) for base in (version, model)),
        *(Route(base, tensorflow_status) for base in (version, model)),
    ]
