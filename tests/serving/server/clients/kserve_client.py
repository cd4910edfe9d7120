"""python kserve_client.py URL IMAGE… : what KServe's client makes of a server, over V1 and V2, as JSON."""

import asyncio
import base64
import json
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

url, *paths = sys.argv[1:]
images = [Path(path).read_bytes() for path in paths]


async def main():
    found = {}
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    assert await v1.is_server_live(url)
    assert await v1.is_model_ready(url, "net")
    instances = {"instances": [{"b64": base64.b64encode(image).decode()} for image in images]}
    found["v1"] = (await v1.infer(url, instances, model_name="net"))["predictions"]
    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await v2.is_server_live(url)
    assert await v2.is_server_ready(url)
    assert await v2.is_model_ready(url, "net")
    for binary in (True, False):
        if binary:
            entry = InferInput("images", [len(images)], "BYTES")
            entry.set_data_from_numpy(np.array(images, object), binary_data=True)
        else:
            texts = [base64.b64encode(image).decode() for image in images]
            entry = InferInput("images", [len(images)], "BYTES", data=texts)
        answer = await v2.infer(url, InferRequest("net", [entry], request_id="7"), model_name="net")
        assert answer.id == "7"
        outputs = {output.name: output for output in answer.outputs}
        found["v2 binary" if binary else "v2"] = outputs["probabilities"].as_numpy().astype(float).tolist()
    return found


json.dump(asyncio.run(main()), sys.stdout)
