"""The same application on Ray Serve: replicas on many machines, replaced when they die, more of them under load.

serve run kerasxfer_serving.server.ray:build models=/models/animals.onnx replicas=4
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.types import ASGIApp

from kerasxfer_serving.cluster import ray as ray_cluster
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.server.app import create_app
from kerasxfer_serving.server.options import ServerOptions
from kerasxfer_serving.server.registry import Models


def deployment(
    models: Models,
    options: ServerOptions | None = None,
    *,
    replicas: int | str = 1,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
) -> Any:
    """The application that `create_app` makes, as a Ray Serve application.

    Args:
        models: See `create_app`. The files must be at the same path on every machine.
        options: See `create_app`; the limits are those of one replica.
        replicas: How many, or `"auto"`: as the load has it. Defaults to 1.
        num_cpus: Cores of each replica, and what it uses of them. Defaults to 1.
        num_gpus: GPUs of each replica. Defaults to 0.

    Returns:
        A `ray.serve.Application`, for `ray.serve.run`.

    Raises:
        UsageError: Ray Serve is not installed.

    Example:

    ```python
    from ray import serve
    from kerasxfer_serving.server.ray import deployment

    serve.run(deployment({"animals": "/models/animals.onnx"}, replicas=4, num_cpus=2))
    ```
    """
    serve = _import_serve()
    used = options or ServerOptions()
    used = replace(used, threads=used.threads or max(1, math.ceil(num_cpus)))

    def build_app() -> ASGIApp:  # called in every replica
        return create_app(models, used)

    resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}
    server = serve.deployment(
        serve.ingress(build_app)(),
        name="kerasxfer-serving",
        num_replicas=replicas,
        ray_actor_options=resources,
        max_ongoing_requests=used.max_waiting,
        graceful_shutdown_timeout_s=used.timeout,
    )
    return server.bind()


def build(arguments: Mapping[str, str]) -> Any:
    """The application for `serve run`, from `models=a.onnx,b.onnx replicas=2 num_cpus=1 num_gpus=0`.

    Raises:
        UsageError: An argument is unknown, or `models` is missing.
    """
    known = {"models", "replicas", "num_cpus", "num_gpus"}
    if "models" not in arguments or set(arguments) - known:
        raise UsageError(
            f"`models=PATH[=NAME],…` is required; known arguments: {sorted(known)}. Received: {dict(arguments)}"
        )
    replicas = arguments.get("replicas", "1")
    return deployment(
        arguments["models"].split(","),
        replicas=int(replicas) if replicas.isdecimal() else replicas,
        num_cpus=float(arguments.get("num_cpus", 1)),
        num_gpus=float(arguments.get("num_gpus", 0)),
    )


def _import_serve() -> Any:
    ray_cluster.import_ray()
    try:
        from ray import serve
    except ImportError:
        raise UsageError('Ray Serve is missing: `pip install "kerasxfer-serving[ray]"`.') from None
    return serve
