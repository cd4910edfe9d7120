"""Class folders on disk: which pictures there are, which of them can be read, and how they are divided."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.images import IMAGE_SUFFIXES
from numpy.typing import NDArray


@dataclass(frozen=True)
class BadImage:
    """A picture that cannot be read: its path, a stable code (`"truncated"`, …) and a message for a person."""

    path: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.path} ({self.code})"


class UnreadableImagesError(KerasxferError):
    """Pictures of a folder that cannot be read, all of them at once.

    Args:
        root: the folder.
        bad_images: what is wrong with which picture; kept as the attribute `bad_images`.
    """

    def __init__(self, root: Path, bad_images: Sequence[BadImage]) -> None:
        super().__init__(
            f"{len(bad_images)} image(s) in '{root}' cannot be read:\n"
            + "".join(f"  {bad}\n" for bad in bad_images)
            + "Remove or repair them, or leave them out with `on_error='skip'` (`--on-error skip` on the command line)."
        )
        self.bad_images = list(bad_images)


def class_folders(root: Path) -> list[str]:
    """Names of the visible folders in `root`, sorted."""
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def choose_class_names(root: Path, given: Sequence[str] | None) -> list[str]:
    """Class names of `root` in the order of their indices: those given, which must be the folders', or the folders'."""
    if not root.is_dir():
        raise ValueError(f"`root` must be a folder of class folders. Received: root='{root}', which is no folder")
    found = class_folders(root)
    if not found:
        raise ValueError(
            f"`root` must hold a folder for each class. Received: root='{root}', which holds no folder. "
            "`kerasxfer split` makes class folders from a flat one."
        )
    if given is not None and sorted(given) != found:
        raise ValueError(
            f"`class_names` must name exactly the folders in `root`, once each. Received: {list(given)}; "
            f"'{root}' holds {found}. A class without pictures needs an empty folder."
        )
    return found if given is None else list(given)


def find_images(folder: Path) -> Iterator[str]:
    """Pictures anywhere below `folder`, by their suffix: POSIX paths relative to `folder`, in no order.

    Links are followed; names that begin with a dot are not for us. A link to nothing is listed: it is a picture that
    cannot be read, not one that is not there.
    """
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(Path(parent), name)]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(parent, name).relative_to(folder).as_posix()


def _leads_back(parent: Path, name: str) -> bool:
    """Whether a folder is a link to one that it lies in: following it would not end."""
    path = parent / name
    return path.is_symlink() and parent.resolve().is_relative_to(path.resolve())


def find_labelled_images(root: Path, class_names: Sequence[str]) -> tuple[list[str], NDArray[np.int32]]:
    """All pictures of `root/class/…`, class by class and sorted by path, with the class's index."""
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = sorted(f"{name}/{path}" for path in find_images(root / name))
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, "int32")


def stratified_split(labels: NDArray[np.int32], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which samples are for validation: the same share of every class, drawn by `seed`.

    A class of two or more gives at least one picture to each side; a single picture trains.
    """
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        chosen[np.random.default_rng((seed, int(label))).permutation(members)[:count]] = True
    return chosen
