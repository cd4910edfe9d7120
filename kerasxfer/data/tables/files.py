"""Which file each cell of a table means."""

import os
import posixpath
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.inputs.text import printable
from kerasxfer_serving.inputs.walk import is_image_name

from kerasxfer.data.tables.source import Cell

_LABEL_STUDIO_LOCAL = "/data/local-files/?d="
_LABEL_STUDIO_UPLOAD = "/data/"


def image_paths(cells: Sequence[Cell], where: str) -> list[str]:
    """The paths in a column, as they are written.

    Raises:
        UsageError: A cell is empty, or holds no path.
    """
    return [cell if type(cell) is str and cell else _path(cell, row, where) for row, cell in enumerate(cells, 1)]


def find_files(root: Path, paths: Sequence[str]) -> tuple[list[str], list[int]]:
    """The files that paths mean; each folder is listed once, however many there are.

    Args:
        root: Folder that they are relative to.
        paths: Paths, or names without their suffix.

    Returns:
        Paths of the files, relative to `root` unless they are absolute, and the numbers of those that are not there.

    Raises:
        UsageError: A name without suffix is that of two images.
    """
    folders = _Folders(root)
    found, missing = list(paths), []
    for row, path in enumerate(paths):
        folder, _, name = path.rpartition("/")
        if name in folders[folder]:
            continue
        known = folders.with_suffix(path) or next(filter(folders.holds, _spellings(path)), None)
        if known is None:
            missing.append(row)
        else:
            found[row] = known
    return found, missing


class _Folders(dict[str, frozenset[str]]):
    """Names of the files in the folders that are asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = os.fspath(root)
        self._stems: dict[str, dict[str, list[str]]] = {}

    def __missing__(self, folder: str) -> frozenset[str]:
        try:
            with os.scandir(os.path.join(self._root, folder or "")) as entries:  # noqa: PTH118
                names = frozenset(entry.name for entry in entries)
        except (OSError, ValueError):
            names = frozenset()
        self[folder] = names
        return names

    def holds(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return name in self[folder]

    def with_suffix(self, path: str) -> str | None:
        """The image whose name without its suffix this is."""
        folder, slash, stem = path.rpartition("/")
        if folder not in self._stems:
            stems: dict[str, list[str]] = {}
            for name in filter(is_image_name, self[folder]):
                stems.setdefault(name.rpartition(".")[0], []).append(name)
            self._stems[folder] = stems
        names = self._stems[folder].get(stem, ())
        if len(names) > 1:
            raise UsageError(
                f"The table's '{printable(path)}' is the name of {len(names)} images in "
                f"'{os.path.join(self._root, folder)}': {', '.join(sorted(names))}. Write the suffix."  # noqa: PTH118
            )
        return folder + slash + names[0] if names else None


def _spellings(path: str) -> Iterator[str]:
    """How else a file's path may be written: by other systems and by tools that label."""
    yield path.strip()
    yield path.replace("\\", "/")
    for form in ("NFC", "NFD"):
        yield unicodedata.normalize(form, path)
    if path.startswith(_LABEL_STUDIO_LOCAL):
        yield unquote(path.removeprefix(_LABEL_STUDIO_LOCAL))
    elif path.startswith(_LABEL_STUDIO_UPLOAD):
        yield unquote(path.removeprefix(_LABEL_STUDIO_UPLOAD))
        yield unquote(posixpath.basename(path))


def _path(cell: Cell, row: int, where: str) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    path = os.fspath(cell) if isinstance(cell, os.PathLike) else cell
    if not isinstance(path, str) or not path:
        raise UsageError(
            f"Row {row:,} of {where} must hold the path of an image. Received: {printable(repr(path))[:80]}"
        )
    return path.replace(os.sep, "/")
