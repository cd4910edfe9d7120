"""`POST /predict` for people: an image as it is, several in a form, or base64 in JSON; rows as `predict` writes them.

`/invocations` is SageMaker's name for the same.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kerasxfer_serving.outputs.predictions import OK, Predictions
from kerasxfer_serving.server.context import body_of, gone, server_of
from kerasxfer_serving.server.errors import RequestError
from kerasxfer_serving.server.json_bodies import JsonResponse, decode_json, from_base64
from kerasxfer_serving.server.models import ServedModel
from kerasxfer_serving.server.multipart import form_files

_JSON = "application/json"
_FORM = "multipart/form-data"


class _JsonImages(msgspec.Struct):
    images: list[str]


async def predict(request: Request) -> Response:
    """Classify images; one row each, ok or what is wrong with it."""
    server = server_of(request)
    path, query = request.path_params, request.query_params
    model = server.registry.find(path.get("model") or query.get("model"), path.get("version") or query.get("version"))
    top_k = _top_k(query.get("top_k", "1"), model)
    named = await images_of(request)
    predictions = await server.predict(
        model, [image for _, image in named], [name for name, _ in named], gone=gone(request)
    )
    return _answer(model, predictions, top_k)


async def images_of(request: Request) -> list[tuple[str, bytes]]:
    """The images of a request, with names, whichever way they are sent.

    Raises:
        RequestError: There are none, or the body is not what its Content-Type says.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    body = await body_of(request)
    if kind == _FORM:
        named = form_files(body, content_type, server_of(request).options.max_images)
    elif kind == _JSON:
        texts = decode_json(body, _JsonImages).images
        named = [(f"[{index}]", from_base64(text, f"images[{index}]")) for index, text in enumerate(texts)]
    else:
        named = [("[0]", body)] if body else []
    if not named:
        raise RequestError(
            'No image was sent. Send one as the body, several as multipart/form-data, or JSON {"images": ["<base64>"]}.'
        )
    return named


def _top_k(text: str, model: ServedModel) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 6 or int(text) < 1:
        raise RequestError(f"`top_k` is a number of classes, at least 1. Received: {text!r:.100}")
    return min(int(text), len(model.manifest.class_names))


def _answer(model: ServedModel, predictions: Predictions, top_k: int) -> Response:
    rows: Sequence[dict[str, Any]] = list(predictions.rows(top_k, all_probabilities=True))
    answer: dict[str, Any] = {
        "model": model.name,
        "version": model.version,
        "class_names": predictions.class_names,
        "task": model.manifest.task,
        "predictions": rows,
    }
    if model.manifest.is_multi_label:
        answer["thresholds"] = model.manifest.thresholds
    if predictions.status == [OK] * len(rows) or len(rows) > 1:
        return JsonResponse(answer)
    (row,) = rows  # the only image is the request: it fails with it
    return JsonResponse({"error": f"{row['status']}: {row['message']}"} | answer, 400)


def routes() -> list[Route]:
    """The paths that take images from people."""
    return [
        Route("/predict", predict, methods=["POST"]),
        Route("/predict/{model}", predict, methods=["POST"]),
        Route("/invocations", predict, methods=["POST"]),
    ]
