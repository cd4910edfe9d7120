"""python triton.py HTTP_ADDRESS GRPC_ADDRESS IMAGE… : what every client of tritonclient makes of a server, as JSON."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http_client
import tritonclient.http.aio as http_aio

http_address, grpc_address, *paths = sys.argv[1:]
IMAGES = np.array([Path(path).read_bytes() for path in paths], object)


def given(module):
    entry = module.InferInput("images", [len(IMAGES)], "BYTES")
    entry.set_data_from_numpy(IMAGES)
    return [entry]


def of(answer):
    return {
        "probabilities": answer.as_numpy("probabilities").astype(float).tolist(),
        "label": [text.decode() for text in answer.as_numpy("label")],
    }


def top(module, client):
    output = module.InferRequestedOutput("probabilities", class_count=1)
    answer = client.infer("net", given(module), outputs=[output])
    return [text.decode().split(":")[2] for text in answer.as_numpy("probabilities").ravel()]


async def asynchronous(module, address):
    async with module.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        return of(await client.infer("net", given(http_aio if module is http_aio else grpc_aio)))


http = http_client.InferenceServerClient(http_address)
grpc = grpc_client.InferenceServerClient(grpc_address)
for client in (http, grpc):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("net")
assert not http.is_model_ready("nope")
assert http.get_model_metadata("net")["outputs"][0]["name"] == "probabilities"
assert http.get_model_config("net")["input"][0]["data_type"] == "TYPE_STRING"
assert http.get_model_repository_index()[0]["state"] == "READY"
assert grpc.get_model_metadata("net").inputs[0].datatype == "BYTES"
assert grpc.get_model_config("net").config.input[0].data_type == 13
assert len(grpc.get_model_repository_index().models) >= 1
assert "binary_tensor_data" in http.get_server_metadata()["extensions"]
found = {"http": of(http.infer("net", given(http_client))), "grpc": of(grpc.infer("net", given(grpc_client)))}
for algorithm in ("gzip", "deflate"):
    found[algorithm] = of(http.infer("net", given(http_client), request_compression_algorithm=algorithm))
text = [http_client.InferRequestedOutput(name, binary_data=False) for name in ("probabilities", "label")]
answer = http.infer("net", given(http_client), outputs=text).get_response()["outputs"]
probabilities = np.reshape(answer[0]["data"], answer[0]["shape"]).tolist()
found["json answer"] = {"probabilities": probabilities, "label": answer[1]["data"]}
found["http.aio"] = asyncio.run(asynchronous(http_aio, http_address))
found["grpc.aio"] = asyncio.run(asynchronous(grpc_aio, grpc_address))
pixels = http_client.InferInput("images", [1, 48, 40, 3], "UINT8")
pixels.set_data_from_numpy(np.full((1, 48, 40, 3), 90, "uint8"))
flat = http.infer("net", [pixels]).as_numpy("probabilities").tolist()
pixels.set_data_from_numpy(np.full((1, 48, 40, 3), 90, "uint8"), binary_data=False)
assert http.infer("net", [pixels]).as_numpy("probabilities").tolist() == flat
assert top(http_client, http) == top(grpc_client, grpc) == found["http"]["label"]
assert http.get_inference_statistics("net")["model_stats"][0]["inference_count"] >= 10
assert grpc.get_inference_statistics("net").model_stats[0].inference_stats.success.count >= 5
json.dump(found, sys.stdout)
