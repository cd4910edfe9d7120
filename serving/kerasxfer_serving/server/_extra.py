"""What the extra `serve` brings, and the one place that says so where it is missing."""

from importlib.util import find_spec

from kerasxfer_serving.errors import UsageError

_PACKAGES = ("starlette", "uvicorn", "httptools", "python_multipart", "prometheus_client", "msgspec")


def require_packages() -> None:
    """Say what to install where a package of the extra is missing.

    Raises:
        UsageError: One is.
    """
    for name in _PACKAGES:
        if find_spec(name) is None:
            raise UsageError(f'Serving needs `{name}`: `pip install "kerasxfer-serving[serve]"`.')
