"""A server's benchmark, MLPerf's *Server*: the highest rate at which 99 of 100 requests are answered in time."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from kerasxfer_serving.benchmarking.data import open_images
from kerasxfer_serving.benchmarking.load import Target, capacity, check_url, open_loop
from kerasxfer_serving.benchmarking.server_report import LEAST_QUERIES, ServerReport, Step
from kerasxfer_serving.diagnostics.env import environment
from kerasxfer_serving.errors import KerasxferError

_SHARES = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def benchmark_server(
    url: str,
    data: str | Path | None = None,
    *,
    model: str | None = None,
    target: float = 100.0,
    rates: Sequence[float] = (),
    duration: float = 10.0,
    limit: int = 2000,
    image_size: tuple[int, int] = (375, 500),
    token: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> ServerReport:
    """Measure a server that runs.

    Args:
        url: `http://HOST:PORT` of `kerasxfer-serving serve`.
        data: Folder of images. Defaults to `None`: synthetic images.
        model: Name of the model. Defaults to the server's first.
        target: Milliseconds that 99 of 100 requests may take. Defaults to 100.
        rates: Requests a second to try, rising. Defaults to shares of what the server answers at most.
        duration: Seconds of each rate, at least; 500 requests are sent in any case. Defaults to 10.
        limit: How many images of `data` are used, drawn by lot. Defaults to 2000.
        image_size: `(height, width)` of synthetic images. Defaults to `(375, 500)`.
        token: Bearer token. Defaults to `None`.
        progress: Called with a line after each rate.

    Returns:
        A `ServerReport`.

    Raises:
        KerasxferError: The server cannot be reached, or does not answer as it must.

    Example:

    ```python
    report = benchmark_server("http://127.0.0.1:8000", "photos/", target=50)
    report.highest_rate, report.valid
    ```
    """
    check_url(url)
    base = url.rstrip("/")
    described = _describe_model(base, model, token)
    target_path = Target(f"{base}/predict?{urlencode({'model': described['name']})}", token)
    with open_images(data, limit, image_size) as images:
        bodies = [_content(item.open()) for item in images.items]
        about = images.describe()
    steps = asyncio.run(_measure(target_path, bodies, rates, duration, target, progress))
    return ServerReport(
        url=base,
        model=described,
        data={name: about[name] for name in ("source", "drawn", "pictures", "bytes", "sha256") if name in about},
        target=target,
        steps=steps,
        environment=environment(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


@contextmanager
def serving(model: str | Path, device: str) -> Iterator[str]:
    """A server of a model on this machine, for as long as the context lasts; yields its URL.

    Raises:
        KerasxferError: It does not start.
    """
    options = ["--port", "0", "--device", device, "--no-access-log"]
    command = [sys.executable, "-m", "kerasxfer_serving", "serve", str(model), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _address(process)
        finally:
            process.terminate()
            process.wait(60)


def _address(process: "subprocess.Popen[str]") -> str:
    said = []
    for line in process.stderr or ():
        if line.startswith("Serving at "):
            return line.split()[2]
        said.append(line)
    raise KerasxferError(f"The server did not start: {''.join(said).strip().removeprefix('Error: ')}")


async def _measure(
    target: Target,
    bodies: Sequence[bytes],
    rates: Sequence[float],
    duration: float,
    milliseconds: float,
    progress: Callable[[str], None],
) -> list[Step]:
    """Try rising rates, until one does not hold."""
    most = await capacity(target, bodies, min(3.0, duration))
    progress(f"At most {most:,.1f} images/s with 16 clients that wait.")
    steps = []
    for rate in sorted(rates) or [round(most * share, 2) for share in _SHARES]:
        sent = await open_loop(target, bodies, rate, max(LEAST_QUERIES, round(rate * duration)))
        steps.append(Step.of(rate, sent))
        progress(f"{rate:,.1f}/s: p99 at most {steps[-1].p99:,.1f} ms, {steps[-1].failed} failed")
        if not steps[-1].holds(milliseconds):
            break
    target.close()
    return steps


def _describe_model(base: str, name: str | None, token: str | None) -> dict[str, Any]:
    if name is None:
        index = _ask(f"{base}/v2/repository/index", token, b"")
        name = str(index[0]["name"])
    config = _ask(f"{base}/v2/models/{name}/config", token)
    parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
    return {"name": name, "sha256": parameters.get("sha256"), "device": parameters.get("device")}


def _ask(url: str, token: str | None, body: bytes | None = None) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())
    except (OSError, ValueError, KeyError) as error:
        raise KerasxferError(f"`{url}` does not answer as `kerasxfer-serving serve` does: {error}") from None


def _content(source: Any) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()
