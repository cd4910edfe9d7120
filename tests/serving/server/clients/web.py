"""python web.py URL IMAGE… : requests and httpx against a server: each image's label by each, as JSON."""

import json
import sys
from pathlib import Path

import httpx
import requests

url, *paths = sys.argv[1:]
images = [Path(path).read_bytes() for path in paths]
too_large = b"x" * (40 << 20)


def of(answer):
    return [row["label"] for row in answer.json()["predictions"]]


found = {}
with requests.Session() as session, httpx.Client() as client:
    for name, module in {"requests": session, "httpx": client}.items():
        body = "data" if name == "requests" else "content"
        found[name] = [of(module.post(f"{url}/predict/net", **{body: image}))[0] for image in images]
        files = [("file", (path, image)) for path, image in zip(paths, images, strict=True)]
        found[f"{name}, form"] = of(module.post(f"{url}/predict/net", files=files))
        chunks = iter([images[0][:50], images[0][50:]])
        found[f"{name}, chunked"] = of(module.post(f"{url}/predict/net", **{body: chunks}))
        assert module.post(f"{url}/predict/net", **{body: too_large}).status_code == 413
json.dump(found, sys.stdout)
