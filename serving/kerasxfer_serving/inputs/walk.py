"""Which files of a folder are images: the one rule of prediction, training, splitting, caching and preview.

A name decides, by its suffix, without the file being opened. Hidden files and what operating systems, cameras' software
and storage devices put beside images (thumbnails, recycle bins) are not taken, and nothing is passed over in silence:
`LeftOut` counts it.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.image_io.formats import FORMAT_OF_SUFFIX, missing_plugin
from kerasxfer_serving.inputs.text import printable

_SYSTEM_FOLDERS = frozenset(
    {
        "__macosx",
        "network trash folder",
        "temporary items",
        "$recycle.bin",
        "recycler",
        "recycled",
        "system volume information",
        "found.000",
        "lost+found",
        "lost.dir",
        "@eadir",
        "#recycle",
        "#snapshot",
        "@tmp",
        "@sharebin",
        "@recycle",
        "@__thumb",
        "@recently-snapshot",
        "@upload_cache",
        "__pycache__",
        ".appledouble",
        ".ipynb_checkpoints",
        ".thumbnails",
        ".thumb",
        ".trash",
        ".trashes",
        ".spotlight-v100",
        ".fseventsd",
        ".temporaryitems",
        ".documentrevisions-v100",
        ".picasaoriginals",
    }
)
_SYSTEM_FILES = frozenset(
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", ".ds_store", "icon\r", "picasa.ini"}
)
_SYSTEM_PREFIXES = ("._", ".trash-", ".trashed-", ".pending-", ".nfs", ".fuse_hidden", "~$")
_REASONS = 8


class LeftOut:
    """What a search for images did not take, by reason.

    Args:
        kept: How many paths are kept of each reason. Defaults to `3`.

    Attributes:
        counts: Number of files and folders by reason: a suffix (`".txt"`, `"no suffix"`), `"hidden files"`,
            `"system folders"`, …
        examples: The first paths of each reason.
    """

    def __init__(self, kept: int = 3) -> None:
        self._kept = kept
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, path: str) -> None:
        """Count one file or folder."""
        self.counts[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < self._kept:
            examples.append(path)

    def clear(self) -> None:
        """Forget everything, for a new search."""
        self.counts.clear()
        self.examples.clear()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: count and examples by reason, the most frequent first."""
        return {
            reason: {"count": count, "examples": list(self.examples[reason])}
            for reason, count in self.counts.most_common()
        }

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """One line for a person: `3 .txt (notes.txt, …), 1 system folders (@eaDir)`."""
        found = [
            f"{count:,} {reason} ({printable(self.examples[reason][0])}{', …' if count > 1 else ''})"
            for reason, count in sorted(self.counts.items(), key=_unusual_first)[:_REASONS]
        ]
        return ", ".join(found + ["…"] * (len(self.counts) > _REASONS))


def _unusual_first(item: tuple[str, int]) -> tuple[bool, int]:
    """Sorts what can be mended, or looks wrong, before files of other kinds, and frequent ones first."""
    reason, count = item
    return reason.startswith(".") or reason == "no suffix", -count


class Entry(NamedTuple):
    """Something that is an image by its name.

    Args:
        path: The folder's path as it was given, and the way from there.
        error: Why it cannot be read, where that is known without opening it: a folder with an image's name, a format
            without its plugin, a folder that cannot be listed. `None` for all else.
    """

    path: str
    error: ImageError | None = None


def reason_left_out(name: str, *, is_folder: bool = False) -> str | None:
    """Why a name is not taken.

    Args:
        name: Of one file or folder, without the folders above it.
        is_folder: Whether it is a folder's. Defaults to `False`.

    Returns:
        `"system folders"`, `"system files"`, `"hidden folders"`, `"hidden files"`; for a file that is no image its
        suffix, as `".txt"`, or `"no suffix"`. `None` for an image, and for a folder that may hold some.
    """
    kind = "folders" if is_folder else "files"
    folded = name.casefold()
    if folded in (_SYSTEM_FOLDERS if is_folder else _SYSTEM_FILES) or folded.startswith(_SYSTEM_PREFIXES):
        return f"system {kind}"
    if name.startswith("."):
        return f"hidden {kind}"
    return None if is_folder or is_image_suffix(_suffix(name)) else _suffix(name) or "no suffix"


def reason_left_out_below(path: str) -> str | None:
    """As `reason_left_out`, for the path of a file below the folder or archive that was named."""
    return folders_left_out(path) or reason_left_out(path.rpartition("/")[2])


def folders_left_out(path: str) -> str | None:
    """Why the folders that a file lies in, those in `path`, are not entered; `None` where they are."""
    folders = path.split("/")[:-1]
    reasons = (reason_left_out(name, is_folder=True) for name in folders if name not in ("", ".", ".."))
    return next(filter(None, reasons), None)


def is_image_name(name: str) -> bool:
    """Whether a file is taken for an image, by its name alone."""
    return reason_left_out(name) is None


def is_image_suffix(suffix: str) -> bool:
    """Whether a suffix, in lower case and with its dot, is one of images."""
    return suffix in FORMAT_OF_SUFFIX


def walk(
    folder: str | os.PathLike[str], *, all_files: bool = False, left_out: LeftOut | None = None
) -> Iterator[Entry]:
    """Images anywhere below a folder, in the order of their sorted paths.

    Links are followed, but not to a folder that has been seen, nor to one that this one lies in. However deep the
    folders are and however many files they hold, one listing per level is all that is kept.

    Args:
        folder: Path of the folder, which may have any name.
        all_files: Take every file, whatever its name, and enter every folder. Defaults to `False`.
        left_out: Counts what is not taken. Defaults to `None`, not counted.

    Yields:
        One `Entry` for each image; a link to nothing that is called like one is among them.
    """
    left_out = LeftOut() if left_out is None else left_out
    seen = set(_above(folder))
    levels = [_list(os.fspath(folder), seen, left_out)]
    while levels:
        found = next(levels[-1], None)
        if found is None:
            levels.pop()
            continue
        path, name, is_folder, error = found
        if error is not None:
            yield Entry(path, error)
            continue
        reason = None if all_files else reason_left_out(name, is_folder=is_folder)
        if reason is not None:
            left_out.add(reason, path)
        elif is_folder:
            if is_image_suffix(_suffix(name)):  # somebody expects an image there
                yield Entry(path, ImageError("is_directory", f"{path!r} is a directory"))
            levels.append(_list(path, seen, left_out))
        else:
            yield Entry(path, _unsupported(path))


def find_images(folder: str | os.PathLike[str], left_out: LeftOut | None = None) -> Iterator[str]:
    """The images below a folder that can be read here, by their suffix.

    Args:
        folder: Path of the folder.
        left_out: Counts everything else. Defaults to `None`, not counted.

    Yields:
        POSIX paths relative to `folder`, sorted.
    """
    left_out = LeftOut() if left_out is None else left_out
    root = os.path.join(os.fspath(folder), "")  # noqa: PTH118
    for path, error in walk(folder, left_out=left_out):
        if error is None:
            yield path.removeprefix(root).replace(os.sep, "/")
        elif error.code != "is_directory":  # what such a folder holds is taken
            left_out.add(_reason(path, error), path)


def list_folders(folder: str | os.PathLike[str], left_out: LeftOut | None = None) -> list[str]:
    """Names of the folders directly in a folder, sorted, without hidden ones and those of systems.

    Args:
        folder: Path of the folder.
        left_out: Counts the others. Defaults to `None`, not counted.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not _is_folder(entry):
                continue
            reason = reason_left_out(entry.name, is_folder=True)
            if reason is None:
                names.append(entry.name)
            elif left_out is not None:
                left_out.add(reason, entry.path)
    return names


class _Found(NamedTuple):
    path: str
    name: str
    is_folder: bool
    error: ImageError | None = None


def _list(folder: str, seen: set[tuple[int, int]], left_out: LeftOut) -> Iterator[_Found]:
    """What is directly in a folder; folders sort as their paths do, with a slash behind the name."""
    try:
        status = os.stat(folder)  # noqa: PTH116
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            left_out.add("folders seen before", folder)
            return
        seen.add(identity)
        with os.scandir(folder) as entries:
            names = sorted(entry.name + "/" * _is_folder(entry) for entry in entries)
    except OSError as error:  # what it holds is not lost in silence
        message = f"{folder!r} cannot be listed: {error.strerror}"
        yield _Found(folder, "", True, ImageError("unreadable", message))
        return
    for name in names:
        bare = name.rstrip("/")
        yield _Found(os.path.join(folder, bare), bare, name != bare)  # noqa: PTH118  (keeps the folder's name as given)


def _above(folder: str | os.PathLike[str]) -> Iterator[tuple[int, int]]:
    """The folders that a folder lies in, as `_list` knows them."""
    for parent in Path(os.path.realpath(folder)).parents:
        with suppress(OSError):
            status = parent.stat()
            yield status.st_dev, status.st_ino


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  (a third of Path's time, per file)


def _unsupported(path: str) -> ImageError | None:
    name = FORMAT_OF_SUFFIX.get(_suffix(path))
    package = missing_plugin(name) if name else None
    if package is None:
        return None
    return ImageError("unsupported", f"{path!r}: this Pillow cannot read {name}: `pip install {package}`")


def _reason(path: str, error: ImageError) -> str:
    if error.code != "unsupported":
        return "folders that cannot be listed"
    name = FORMAT_OF_SUFFIX[_suffix(path)]
    return f"{name} files (`pip install {missing_plugin(name)}`)"
