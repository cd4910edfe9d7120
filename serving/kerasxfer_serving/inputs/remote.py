"""Pictures in object storage and on the web, through fsspec: `s3://`, `gs://`, `https://`, `memory://`, `file://`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from kerasxfer_serving.errors import ImageError, UsageError
from kerasxfer_serving.inputs.archives import is_archive, read_archive
from kerasxfer_serving.inputs.input import Input


def is_remote(source: str) -> bool:
    """Whether a source is a URL."""
    return "://" in source


def read_remote(url: str, wanted: Callable[[str], bool]) -> Iterator[Input]:
    """Inputs that a URL leads to: a file, a folder, a glob or an archive.

    Raises:
        UsageError: fsspec or the package for the protocol is not installed, or a glob matches nothing.
    """
    system, path = _file_system(url)
    protocol = url.split("://", 1)[0]
    if any(character in path for character in "*?["):
        matches = sorted(system.glob(path))
        if not matches:
            raise UsageError(f"An input glob must match something. Received: {url!r}")
        for name in matches:
            match = f"{protocol}://{name}"
            if is_archive(name):
                yield from read_archive(match, wanted, system.open(name))
            else:
                yield _remote_input(system, name, match)
    elif is_archive(url):
        yield from read_archive(url, wanted, system.open(path))
    elif system.isdir(path):
        for name, about in sorted(system.find(path, detail=True).items()):
            below = name.removeprefix(path.rstrip("/"))
            if wanted(below):
                yield _remote_input(system, name, url.rstrip("/") + below, about.get("size"))
    else:
        yield _remote_input(system, path, url)


def remote_input(url: str) -> Input:
    """The input for the URL of one picture, as in a list: what is wrong with it is said in its row."""
    return Input(url, partial(_find_and_fetch, url))


def _remote_input(system: Any, path: str, url: str, size: int | None = None) -> Input:
    return Input(url, partial(_fetch, system, path, url), size)


def _find_and_fetch(url: str) -> bytes:
    try:
        system, path = _file_system(url)
    except UsageError as error:
        raise ImageError("unreadable", str(error)) from error
    return _fetch(system, path, url)


def _fetch(system: Any, path: str, url: str) -> bytes:
    try:
        data: bytes = system.cat_file(path)
    except FileNotFoundError as error:
        raise ImageError("not_found", f"{url!r} does not exist") from error
    except Exception as error:  # each protocol has its own errors: connection, permission, timeout
        raise ImageError("unreadable", f"{url!r} cannot be fetched: {error}") from error
    return data


def _file_system(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise UsageError(
            f"Inputs by URL need fsspec: `pip install 'kerasxfer-serving[remote]'`. Received: {url!r}"
        ) from None
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{url!r} cannot be read: {error}") from error
    return system, path
