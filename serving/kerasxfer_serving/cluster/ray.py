"""Ray, started or joined: the one place where it is imported, and what every use of it has in common.

Nothing is reported anywhere, no dashboard is started, and what Ray logs goes to its own files.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.runtime.resources import available_cores

_MISSING = '`--engine ray` needs Ray: `pip install "kerasxfer-serving[ray]"`.'
# Read by Ray when it is imported or started; what the user has set stays. Workers started here are not nicer to other
# processes than this one is: Ray's 15 would let them starve on a busy machine.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
}


@contextmanager
def start(address: str | None = None, *, num_cpus: int | None = None) -> Iterator[Any]:
    """Join a cluster, or start Ray on this machine for as long as the context lasts.

    A Ray that this process has started or joined already is used as it is, and left running.

    Args:
        address: `"auto"` or an address joins a cluster that is there. Defaults to the one in the environment variable
            `RAY_ADDRESS`; without it Ray is started on this machine.
        num_cpus: Cores of a Ray that is started. Defaults to those this process may use.

    Yields:
        The module `ray`.

    Raises:
        UsageError: Ray is not installed, or no cluster is to be found at `address`.

    Example:

    ```python
    from kerasxfer_serving.cluster import ray as ray_cluster

    with ray_cluster.start(num_cpus=2) as ray:
        print(ray.cluster_resources())
    ```
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options |= {"num_cpus": num_cpus or available_cores(), "include_dashboard": False}
    try:
        _knock(address)
        ray.init(**options)
    except (ConnectionError, TimeoutError, socket.gaierror, ValueError) as error:
        raise UsageError(
            f"No Ray cluster answers. Received: address={address!r} ({error}). Start one with `ray start --head`, give "
            "its address, or leave out `--address` to use this machine alone."
        ) from error
    except Exception as error:  # Ray raises bare ones too
        raise KerasxferError(f"Ray cannot be started: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """See at once whether anybody listens at `host:port`: Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "://" not in address and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def import_ray() -> ModuleType:
    """The module `ray`, with its messages turned off.

    Raises:
        UsageError: It is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise UsageError(_MISSING) from None
    module: ModuleType = ray
    return module
