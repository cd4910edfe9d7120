"""Images in object storage and on the web, through fsspec: `s3://`, `gs://`, `https://`, `memory://`, `file://`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from kerasxfer_serving.errors import ImageError, UsageError
from kerasxfer_serving.image_io.decoding import MAX_BYTES
from kerasxfer_serving.inputs.archives import is_archive, read_archive
from kerasxfer_serving.inputs.input import Input, failed_input, too_large


def is_remote(source: str) -> bool:
    """Whether a source is a URL."""
    return "://" in source


def read_remote(url: str, wanted: Callable[[str], bool]) -> Iterator[Input]:
    """Inputs that a URL leads to: a file, a folder, a glob or an archive.

    Raises:
        UsageError: The package fsspec or the package for the protocol is not installed, or a glob matches nothing.
    """
    system, path = _file_system(url)
    try:
        yield from _search(system, path, url, wanted)
    except UsageError:
        raise
    except Exception as error:  # each protocol has its own errors: connection, permission, timeout
        yield failed_input(url, "unreadable", f"{url!r} cannot be searched: {error}")


def _search(system: Any, path: str, url: str, wanted: Callable[[str], bool]) -> Iterator[Input]:
    protocol = url.split("://", 1)[0]
    if any(character in path for character in "*?["):
        matches = sorted(system.glob(path))
        if not matches:
            raise UsageError(f"An input glob must match something. Received: {url!r}")
        for name in matches:
            match = f"{protocol}://{name}"
            if is_archive(name):
                yield from read_archive(match, wanted, partial(system.open, name))
            else:
                yield _remote_input(system, name, match)
    elif is_archive(url):
        yield from read_archive(url, wanted, partial(system.open, path))
    elif system.isdir(path):
        for name, about in sorted(system.find(path, detail=True).items()):
            below = name.removeprefix(path.rstrip("/"))
            if wanted(below):
                yield _remote_input(system, name, url.rstrip("/") + below, about.get("size"))
    else:
        yield _remote_input(system, path, url)


def remote_input(url: str) -> Input:
    """The input for the URL of one image, as in a list: what is wrong with it is said in its row."""
    return Input(url, partial(_find_and_fetch, url))


def _remote_input(system: Any, path: str, url: str, size: int | None = None) -> Input:
    if size is not None and size > MAX_BYTES:
        return too_large(url, size)
    return Input(url, partial(_fetch, system, path, url, size is not None), size)


def _find_and_fetch(url: str) -> bytes:
    try:
        system, path = _file_system(url)
    except UsageError as error:
        raise ImageError("unreadable", str(error)) from error
    return _fetch(system, path, url)


def _fetch(system: Any, path: str, url: str, known: bool = False) -> bytes:
    """The bytes of a file; of one whose size is not known, one more than are read, at most."""
    try:
        data: bytes
        if known:
            data = system.cat_file(path)
        else:
            with system.open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ImageError("not_found", f"{url!r} does not exist") from error
    except Exception as error:
        raise ImageError("unreadable", f"{url!r} cannot be fetched: {error}") from error
    if len(data) > MAX_BYTES:
        raise ImageError("decompression_bomb", f"{url!r} has more than {MAX_BYTES:,} bytes, the most that are read")
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
