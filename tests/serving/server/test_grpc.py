"""gRPC, spoken with the service's own messages; `test_clients.py` has tritonclient."""

import numpy as np
import pytest
from kerasxfer_serving.predictor import Predictor
from kerasxfer_serving.server import ServerOptions

grpc = pytest.importorskip("grpc", reason="the extra `grpc` is not installed")

from kerasxfer_serving.server.grpc_messages import SERVICE, message  # noqa: E402
from kerasxfer_serving.server.grpc_service import GrpcService  # noqa: E402


class Caller:
    def __init__(self, port):
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def __call__(self, method, timeout=30, metadata=None, **fields):
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            message(f"{method}Request").SerializeToString,
            message(f"{method}Response").FromString,
        )
        return call(message(f"{method}Request")(**fields), timeout=timeout, metadata=metadata)


@pytest.fixture(scope="module")
def call(run_grpc, net):
    with run_grpc(net) as caller:
        yield caller


@pytest.fixture(scope="module")
def run_grpc(run_server):
    from contextlib import contextmanager

    @contextmanager
    def run(models, options=None):
        with run_server(models, options, companions=lambda core: [GrpcService(core, "127.0.0.1", 0)]) as server:
            yield Caller(server.companions[0].port)

    return run


def _input(count, datatype="BYTES", shape=None, **more):
    return message("InferInputTensor")(name="images", datatype=datatype, shape=shape or [count], **more)


def test_infer_is_predict_to_the_bit(call, net, images):
    with Predictor(net) as predictor:
        expected = predictor.predict(images)
    raw = b"".join(len(image).to_bytes(4, "little") + image for image in images)
    contents = message("InferTensorContents")(bytes_contents=images)
    for fields in (
        {"inputs": [_input(len(images))], "raw_input_contents": [raw]},
        {"inputs": [_input(len(images), contents=contents)]},
    ):
        answer = call("ModelInfer", model_name="net", id="7", **fields)
        assert (answer.id, answer.model_version) == ("7", "1")
        assert [output.name for output in answer.outputs] == ["probabilities", "label"]
        probabilities = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(answer.outputs[0].shape)
        np.testing.assert_array_equal(probabilities, expected.probabilities)


def test_pixels(call, net):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), "uint8")
    with Predictor(net) as predictor:
        expected = predictor.predict(pixels).probabilities
    contents = message("InferTensorContents")(uint_contents=pixels.ravel().tolist())
    for fields in (
        {"inputs": [_input(2, "UINT8", pixels.shape)], "raw_input_contents": [pixels.tobytes()]},
        {"inputs": [_input(2, "UINT8", pixels.shape, contents=contents)]},
    ):
        answer = call("ModelInfer", model_name="net", **fields)
        np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], "<f4"), expected.ravel())


def test_health_metadata_and_statistics(call):
    assert call("ServerLive").live
    assert call("ServerReady").ready
    assert call("ModelReady", name="net").ready
    assert "binary_tensor_data" in call("ServerMetadata").extensions
    assert [spec.name for spec in call("ModelMetadata", name="net").outputs] == ["probabilities", "label"]
    assert call("ModelConfig", name="net").config.input[0].data_type == 13
    assert call("RepositoryIndex").models[0].state == "READY"
    assert call("ModelStatistics").model_stats[0].name == "net"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model_name": "nope"}, "NOT_FOUND"),
        ({"model_name": "net"}, "INVALID_ARGUMENT"),
        ({"model_name": "net", "inputs": [("FP32", [1])]}, "INVALID_ARGUMENT"),
        ({"model_name": "net", "inputs": [("BYTES", [1])], "raw_input_contents": [b"\x01"]}, "INVALID_ARGUMENT"),
        ({"model_name": "net", "inputs": [("BYTES", [0])], "raw_input_contents": [b""]}, "INVALID_ARGUMENT"),
        ({"model_name": "net", "inputs": [("UINT8", [1, 1, 1, 3])]}, "INVALID_ARGUMENT"),
        ({"model_name": "net", "inputs": [("BYTES", [1])], "raw_input_contents": [b"", b""]}, "INVALID_ARGUMENT"),
    ],
    ids=str,
)
def test_errors_have_their_codes(call, fields, code):
    inputs = [_input(1, datatype, shape) for datatype, shape in fields.get("inputs", [])]
    with pytest.raises(grpc.RpcError) as raised:
        call("ModelInfer", **fields | {"inputs": inputs})
    assert raised.value.code().name == code
    assert raised.value.details()


def test_large_messages_and_wrong_tokens_are_refused(run_grpc, net, images):
    options = ServerOptions(max_body=1 << 20, tokens=("open",))
    with run_grpc(net, options) as call:
        assert call("ServerReady").ready
        with pytest.raises(grpc.RpcError) as raised:
            call("ServerMetadata")
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        metadata = [("authorization", "Bearer open")]
        assert call("ServerMetadata", metadata=metadata).name
        with pytest.raises(grpc.RpcError) as raised:
            call("ModelInfer", metadata=metadata, raw_input_contents=[bytes(4 << 20)], inputs=[_input(1)])
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
