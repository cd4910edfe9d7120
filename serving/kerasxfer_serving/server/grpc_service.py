"""The Open Inference Protocol over gRPC, in the event loop of the HTTP server. Needs the extra `[grpc]`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from google.protobuf import json_format

from kerasxfer_serving import __version__
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.image_io.decoding import Source
from kerasxfer_serving.server import oip, tensors
from kerasxfer_serving.server.core import InferenceServer
from kerasxfer_serving.server.errors import RequestError
from kerasxfer_serving.server.grpc_messages import SERVICE, message
from kerasxfer_serving.server.middleware import Tokens, error_body
from kerasxfer_serving.server.models import ServedModel
from kerasxfer_serving.server.tensors import Wanted

try:
    import grpc
except ImportError:
    raise UsageError('`--grpc-port` needs gRPC: `pip install "kerasxfer-serving[grpc]"`.') from None

_LOG = logging.getLogger(__name__)
_OPEN_METHODS = ("ServerLive", "ServerReady")
_CONFIG_TYPES = {"TYPE_STRING": 13, "TYPE_FP32": 11}
_ROOM = 1 << 20  # of a message beyond its images

_Method: TypeAlias = Callable[[Any, Any], Awaitable[Any]]


class GrpcService:
    """The service on a port.

    Args:
        server: What answers.
        host: Address to listen at.
        port: TCP port; 0 takes a free one.
        tls: Files of certificate chain and key, PEM. Defaults to `None`, no TLS.

    Attributes:
        port: The port it listens at, once started.
    """

    def __init__(self, server: InferenceServer, host: str, port: int, tls: tuple[Path, Path] | None = None) -> None:
        self.port = port
        self._server = server
        self._host = f"[{host}]" if ":" in host else host
        self._tls = tls
        self._tokens = Tokens(server.options.tokens, _OPEN_METHODS)
        self._grpc: Any = None

    async def start(self) -> None:
        """Begin to listen."""
        methods = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "ModelInfer": self._model_infer,
        }
        most = self._server.options.max_body + _ROOM
        self._grpc = grpc.aio.server(
            options=[("grpc.max_receive_message_length", most), ("grpc.max_send_message_length", -1)]
        )
        handlers = {name: self._handler(name, method) for name, method in methods.items()}
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        address = f"{self._host}:{self.port}"
        try:
            if self._tls:
                self.port = self._grpc.add_secure_port(address, _credentials(*self._tls))
            else:
                self.port = self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise UsageError(f"Nothing can listen at {address}: {error}. Choose `--grpc-port`.") from None
        await self._grpc.start()
        _LOG.info("gRPC at %s:%s", self._host, self.port)

    async def stop(self, grace: float) -> None:
        """Refuse new calls; give those that have begun so many seconds."""
        if self._grpc is not None:
            await self._grpc.stop(grace)

    def _handler(self, name: str, method: _Method) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            started = time.perf_counter()
            code = grpc.StatusCode.OK
            share = self._server.memory.open()
            try:
                authorization = dict(context.invocation_metadata() or ()).get("authorization", "")
                self._tokens.check(authorization, name)
                share.grow_to(request.ByteSize())
                return await method(request, context)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception as error:
                code = _status(error)
                self._record_error(name, error)
                await context.abort(code, error_body(error)["error"])
            finally:
                share.close()
                metrics = self._server.metrics
                metrics.requests.labels("grpc", name, code.name).inc()
                metrics.request_seconds.labels("grpc").observe(time.perf_counter() - started)

        return grpc.unary_unary_rpc_method_handler(
            answer, message(f"{name}Request").FromString, message(f"{name}Response").SerializeToString
        )

    def _record_error(self, name: str, error: Exception) -> None:
        if isinstance(error, RequestError):
            self._server.metrics.rejected.labels(error.reason).inc()
        else:
            _LOG.error("%s failed", name, exc_info=error)

    def _model(self, name: str, version: str) -> ServedModel:
        return self._server.registry.find(name or None, version or None)

    async def _server_live(self, request: Any, context: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, request: Any, context: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._server.ready)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        self._model(request.name, request.version)
        return message("ModelReadyResponse")(ready=self._server.ready)

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        return message("ServerMetadataResponse")(
            name="kerasxfer-serving", version=__version__, extensions=oip.EXTENSIONS
        )

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        model = self._model(request.name, request.version)
        spec = message("TensorMetadata")
        return message("ModelMetadataResponse")(
            name=model.name,
            versions=self._server.registry.versions(model.name),
            platform=oip.platform(model),
            inputs=[spec(**item._asdict()) for item in tensors.input_specs(model)],
            outputs=[spec(**item._asdict()) for item in tensors.output_specs(model)],
        )

    async def _model_config(self, request: Any, context: Any) -> Any:
        config = oip.config(self._model(request.name, request.version))
        for tensor in (*config["input"], *config["output"]):
            tensor["data_type"] = _CONFIG_TYPES[tensor["data_type"]]
        return json_format.ParseDict({"config": config}, message("ModelConfigResponse")())

    async def _model_statistics(self, request: Any, context: Any) -> Any:
        models = [self._model(request.name, request.version)] if request.name else self._server.registry.models()
        statistics = {"model_stats": [oip.statistics(model) for model in models]}
        return json_format.ParseDict(statistics, message("ModelStatisticsResponse")())

    async def _repository_index(self, request: Any, context: Any) -> Any:
        entry, state = message("ModelIndex"), "READY" if self._server.ready else "UNAVAILABLE"
        models = self._server.registry.models()
        return message("RepositoryIndexResponse")(
            models=[entry(name=model.name, version=model.version, state=state) for model in models]
        )

    async def _model_infer(self, request: Any, context: Any) -> Any:
        model = self._model(request.model_name, request.model_version)
        wanted = _wanted(request, model)
        images = _images(request, model, self._server.options.max_images)
        limits = (context.time_remaining(), oip.timeout_of(_parameters(request.parameters)))
        timeout = min((seconds for seconds in limits if seconds), default=None)
        predictions = await self._server.predict(model, images, timeout=timeout)
        found = tensors.outputs(predictions, wanted)
        output = message("InferOutputTensor")
        return message("ModelInferResponse")(
            model_name=model.name,
            model_version=model.version,
            id=request.id,
            outputs=[output(**tensor.spec._asdict()) for _, tensor in found],
            raw_output_contents=[tensor.to_bytes() for _, tensor in found],
        )


def _images(request: Any, model: ServedModel, most: int) -> list[Source]:
    tensors.check_input([given.name for given in request.inputs], model)
    (given,) = request.inputs
    if len(request.raw_input_contents) > 1:
        raise RequestError("There is more raw content than inputs.")
    raw = request.raw_input_contents[0] if request.raw_input_contents else None
    match given.datatype:
        case "BYTES":
            if raw is None:
                return tensors.images_of_strings(list(given.contents.bytes_contents), given.shape, most)
            return tensors.images_of_strings(tensors.split_strings(memoryview(raw), most), given.shape, most)
        case "UINT8":
            if raw is None:
                raw = tensors.pixels_of_numbers(list(given.contents.uint_contents)).tobytes()
            return tensors.images_of_pixels(np.frombuffer(raw, np.uint8), given.shape, most)
    raise tensors.unknown_datatype(given.datatype)


def _wanted(request: Any, model: ServedModel) -> Sequence[Wanted]:
    if not request.outputs:
        return tensors.all_outputs(model, binary=True)
    wanted = [
        Wanted(output.name, True, tensors.classes_of(_parameters(output.parameters))) for output in request.outputs
    ]
    tensors.check_wanted(wanted, model)
    return wanted


def _parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: getattr(parameter, chosen)
        for name, parameter in parameters.items()
        if (chosen := parameter.WhichOneof("parameter_choice"))
    }


def _status(error: Exception) -> Any:
    return grpc.StatusCode[error.code] if isinstance(error, RequestError) else grpc.StatusCode.INTERNAL


def _credentials(cert: Path, key: Path) -> Any:
    return grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])
