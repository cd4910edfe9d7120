"""Divides images into train, validation and test: which are which, and their folders."""

import os
import re
import shutil
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.inputs.text import printable
from kerasxfer_serving.inputs.walk import LeftOut, find_images, is_image_name, reason_left_out
from numpy.typing import NDArray

from kerasxfer.data.decisions import Decisions
from kerasxfer.data.division import classes_of, divide_groups, groups_by_pattern
from kerasxfer.data.image_files import class_folders, class_name
from kerasxfer.data.image_rows import ImageRows

# `cat.0.jpg`, `cat_12.png`, `cat (3).jpg`: the name up to the number that ends it.
_PREFIX = re.compile(r"(.+?)[\s._()-]*\d+[\s)]*\.\w+")

Classes = dict[str, dict[str, Path]]
"""By class: by the path that an image gets in the class's folder: where it lies."""


def find_classes(source: Path, pattern: str | None = None, left_out: LeftOut | None = None) -> Classes:
    """The images of a folder by class.

    Args:
        source: Class folders, or one flat folder.
        pattern: Regular expression searched for in each image's path relative to `source`; its first group, or the
            one called `class`, is the class. Defaults to `None`: the folders' names, or in a flat folder what comes
            before the number in a file's name, `cat` for `cat.0.jpg`.
        left_out: Counts what is no image. Defaults to `None`.

    Raises:
        UsageError: An image has no class, or `source` holds none.
    """
    if not source.is_dir():
        raise UsageError(f"SRC must be a folder. Received: '{source}'")
    if pattern is not None:
        classes = _by_name(source, sorted(find_images(source, left_out)), _compile(pattern).search, pattern)
    else:
        names = _files(source, left_out)
        folders = class_folders(source, left_out)
        found = {name: sorted(find_images(source / folder, left_out)) for name, folder in folders.items()}
        found = {name: paths for name, paths in found.items() if paths}
        if names and found:
            raise UsageError(
                f"'{source}' holds both images ({names[0]}, …) and folders of images ({next(iter(found))}, …): "
                "tell the classes by `--pattern`, or name one of the folders."
            )
        classes = {name: {path: source / folders[name] / path for path in paths} for name, paths in found.items()}
        classes = classes or _by_name(source, names, _PREFIX.fullmatch, "cat.0.jpg")
    if not classes:
        raise UsageError(f"SRC must hold images. Received: '{source}', which holds none")
    return classes


def parse_amount(option: str, text: str) -> int | float:
    """Read `1000`, images of each class, or `0.8`, a share of each class.

    Raises:
        UsageError: It is neither.
    """
    try:
        amount = float(text) if "." in text else int(text)
    except ValueError:
        amount = 0
    if amount <= 0 or (isinstance(amount, float) and amount > 1):
        raise UsageError(
            f"`{option}` takes a number of images, such as 1000, or a fraction up to 1.0, such as 0.8. Received: {text}"
        )
    return amount


def decided(classes: Classes, decisions: Decisions) -> Classes:
    """The classes without the images that are excluded, and with those that get another label where that says.

    Args:
        classes: As of `find_classes`.
        decisions: What is to be done.

    Raises:
        KerasxferError: A label is none of the classes.
    """
    result: Classes = {name: {} for name in classes}
    moved = []
    for name, images in classes.items():
        for path, source in images.items():
            label = decisions.labels.get(os.path.abspath(source), name)  # noqa: PTH100
            if os.path.abspath(source) in decisions.excluded:  # noqa: PTH100
                continue
            if label not in classes:
                raise KerasxferError(
                    f"'{decisions.source}' gives '{printable(path)}' a label that is none of the classes: '{label}'. "
                    f"The classes are {', '.join(classes)}."
                )
            if label == name:
                result[name][path] = source
            else:
                moved.append((label, name, path, source))
    for label, name, path, source in moved:  # another image may have its name there
        result[label][path if path not in classes[label] else f"{name}/{path}"] = source
    return result


def rows_of(classes: Classes, source: Path, group_pattern: str | None = None) -> tuple[ImageRows, list[str]]:
    """Images by class as rows.

    Args:
        classes: As of `find_classes`.
        source: The folder that they were found in.
        group_pattern: Finds each image's group in its path. Defaults to `None`, no groups.

    Returns:
        The rows, whose paths are relative to `source`, and the path that each is to get below a subset's folder.
    """
    images = [(label, name, path) for label, name in enumerate(classes) for path in sorted(classes[name])]
    paths = [classes[name][path].relative_to(source).as_posix() for _, name, path in images]
    groups = groups_by_pattern(paths, group_pattern) if group_pattern else None
    labels = np.array([label for label, *_ in images], "int32")
    return ImageRows(source, paths, labels, list(classes), groups=groups), [
        f"{name}/{path}" for _, name, path in images
    ]


def draw(rows: ImageRows, amounts: Mapping[str, int | float], seed: int) -> dict[str, NDArray[np.intp]]:
    """Draw the subsets, from every class alike and without dividing a group.

    What a class without groups gives depends on its own name and images only, not on the other classes.

    Args:
        rows: Readable images.
        amounts: By subset: images of each class, or a share of them.
        seed: Seed of the draw.

    Returns:
        By subset: row numbers, sorted.

    Raises:
        KerasxferError: A class has too few images.
    """
    if rows.groups is not None:
        return _draw_groups(rows, amounts, seed)
    strata = classes_of(rows.labels)
    chosen: dict[str, list[NDArray[np.intp]]] = {subset: [] for subset in amounts}
    for stratum in np.unique(strata):
        name = rows.class_names[stratum] if stratum >= 0 else ""
        members = np.array(sorted(np.flatnonzero(strata == stratum), key=lambda row: rows.paths[row]))
        order = np.random.default_rng((seed, zlib.crc32(name.encode()))).permutation(len(members))
        start = 0
        for subset, size in _sizes(name, len(members), amounts).items():
            chosen[subset].append(members[order[start : start + size]])
            start += size
    return {subset: np.sort(np.concatenate(parts)) for subset, parts in chosen.items()}


def _draw_groups(rows: ImageRows, amounts: Mapping[str, int | float], seed: int) -> dict[str, NDArray[np.intp]]:
    shares = [amount for amount in amounts.values() if isinstance(amount, float)]
    if len(shares) < len(amounts) or sum(shares) > 1 + 1e-9:
        raise UsageError("With groups, give fractions of the images, at most 1.0 in total, such as `--train 0.8`.")
    parts = divide_groups(rows, shares, seed)
    return {subset: np.flatnonzero(parts == number) for number, subset in enumerate(amounts)}


def place(
    rows: ImageRows,
    targets: Sequence[str],
    subsets: Mapping[str, NDArray[np.intp]],
    destination: Path,
    link: bool,
) -> None:
    """Write `destination/subset/class/image`, all of it or nothing.

    Args:
        rows: The images.
        targets: Path of each below its subset's folder.
        subsets: Row numbers by subset.
        destination: A folder that does not exist, or is empty.
        link: Make symbolic links in place of copies.
    """
    put: Callable[[Path, Path], object] = _link if link else shutil.copy2
    with new_folder(destination) as unfinished:
        for subset, chosen in subsets.items():
            for name in rows.class_names:
                (unfinished / subset / name).mkdir(parents=True)
            for row in chosen:
                target = unfinished / subset / targets[row]
                target.parent.mkdir(parents=True, exist_ok=True)
                put(rows.root / rows.paths[row], target)


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """A folder to write into that becomes `destination` when all of it is written, or else disappears."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        yield unfinished
        unfinished.chmod(0o777 & ~_umask())
        if destination.is_dir():
            destination.rmdir()  # Windows puts no folder in the place of another, not even of an empty one
        unfinished.replace(destination)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def refuse_destination(source: Path, destination: Path) -> None:
    """Refuse a destination with something in it, or within the source, where its images would be found again.

    Raises:
        UsageError: It is one.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UsageError(f"DST must be new or empty: nothing is overwritten. Received: '{destination}'")
    if destination.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"DST must be outside SRC. Received: '{destination}', which is in '{source}'")


def _files(source: Path, left_out: LeftOut | None) -> list[str]:
    """Names of the images directly in a folder."""
    files = sorted(entry.name for entry in source.iterdir() if not entry.is_dir())
    for name in files:
        if left_out is not None and (reason := reason_left_out(name)):
            left_out.add(reason, str(source / name))
    return list(filter(is_image_name, files))


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"`--pattern` must be a regular expression: {error}. Received: {pattern}") from error
    if not compiled.groups:
        raise UsageError(f"`--pattern` needs a capture group for the class, such as '([a-z]+)_'. Received: {pattern}")
    return compiled


def _by_name(
    source: Path, paths: Sequence[str], match: Callable[[str], re.Match[str] | None], expected: str
) -> Classes:
    classes: Classes = defaultdict(dict)
    strangers = []
    for path in paths:
        found = match(path)
        name = found and (found["class"] if "class" in found.re.groupindex else found[1])
        if not name or "/" in name or name.startswith("."):
            strangers.append(path)
        else:
            classes[class_name(name)][path] = source / path
    if strangers:
        shown = ", ".join(map(printable, strangers[:5])) + (", …" if len(strangers) > 5 else "")
        raise UsageError(
            f"{len(strangers)} image(s) in '{source}' have no class by {expected!r}: {shown}. "
            "Give a `--pattern` that all of them match."
        )
    return dict(sorted(classes.items()))


def _sizes(name: str, available: int, amounts: Mapping[str, int | float]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    share, given = 0.0, 0
    for subset, amount in amounts.items():
        if isinstance(amount, int):
            sizes[subset] = amount
            continue
        share += amount  # rounded in sum, so that shares that add up to 1 use every image
        sizes[subset] = round(share * available) - given
        given += sizes[subset]
    if sum(sizes.values()) > available:
        wanted = ", ".join(f"{size} for {subset}" for subset, size in sizes.items())
        raise KerasxferError(f"Class '{name}' has {available} readable images; asked for: {wanted}. Ask for fewer.")
    return sizes


def _link(source: Path, target: Path) -> None:
    target.symlink_to(source.resolve())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
