"""Class folders on disk: which images there are, which of them can be read, and how they are divided."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.inputs.text import printable
from kerasxfer_serving.inputs.walk import LeftOut, find_images, list_folders, reason_left_out
from numpy.typing import NDArray


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be read: its path, a stable code (`"truncated"`, …) and a message for a person."""

    path: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{printable(self.path)} ({self.code})"


class UnreadableImagesError(KerasxferError):
    """Images of a folder that cannot be read, all of them at once.

    Args:
        root: The folder.
        bad_images: What is wrong with which image; kept as the attribute `bad_images`.
    """

    def __init__(self, root: Path, bad_images: Sequence[BadImage]) -> None:
        super().__init__(
            f"{len(bad_images)} image(s) in '{root}' cannot be read:\n"
            + "".join(f"  {bad}\n" for bad in bad_images)
            + "Remove or repair them, or leave them out with `on_error='skip'` (`--on-error skip` on the command line)."
        )
        self.bad_images = list(bad_images)


def class_folders(root: Path, left_out: LeftOut | None = None) -> dict[str, str]:
    """Class names, sorted, with the folders in `root` that they are the names of.

    A class is called by the composed form (NFC) of its folder's name: macOS, which decomposes names, and Linux give
    the same classes.

    Args:
        root: Folder of class folders.
        left_out: Counts the folders that are none. Defaults to `None`.

    Raises:
        UsageError: A name is not UTF-8, or two are the same.
    """
    folders: dict[str, str] = {}
    for folder in list_folders(root, left_out):
        name = class_name(folder)
        if name in folders:
            raise UsageError(
                f"'{root}' holds two folders that are both written '{name}' and differ in their bytes alone: "
                f"{folders[name]!a} and {folder!a}. Put their images into one of them."
            )
        folders[name] = folder
    return dict(sorted(folders.items()))


def class_name(text: str) -> str:
    """The class that a name on disk stands for: the name in its composed form (NFC).

    Raises:
        UsageError: It is not UTF-8, so that no table and no model file could hold it.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"The name of a class must be UTF-8. Received: '{printable(text)}'. Rename it.") from None
    return unicodedata.normalize("NFC", text)


def choose_classes(root: Path, class_names: Sequence[str] | None, left_out: LeftOut | None = None) -> dict[str, str]:
    """The classes of `root` in the order of their indices, with their folders.

    Args:
        root: Folder of class folders.
        class_names: The classes, which must be the folders'; or `None` for those, sorted.
        left_out: Counts the folders that are no classes. Defaults to `None`.

    Raises:
        UsageError: `root` is no folder of class folders, or `class_names` are not theirs.
    """
    if not root.is_dir():
        raise UsageError(f"`root` must be a folder of class folders. Received: root='{root}', which is not a folder")
    folders = class_folders(root, left_out)
    for entry in sorted(root.iterdir()):
        if left_out is not None and entry.is_file():
            left_out.add(reason_left_out(entry.name) or "images outside of the class folders", str(entry))
    if not folders:
        raise UsageError(
            f"`root` must hold a folder for each class. Received: root='{root}', which holds no folder. "
            "`kerasxfer split` makes class folders from a flat one."
        )
    if class_names is None:
        return folders
    given = {class_name(name): name for name in class_names}
    if given.keys() != folders.keys() or len(given) != len(class_names):
        raise UsageError(
            f"`class_names` must name exactly the folders in `root`, once each. Received: {list(class_names)}; "
            f"'{root}' holds {list(folders)}. A class without images needs an empty folder."
        )
    return {name: folders[folder_class] for folder_class, name in given.items()}


def find_labelled_images(
    root: Path, folders: Mapping[str, str], left_out: LeftOut | None = None
) -> tuple[list[str], NDArray[np.int32]]:
    """All images of `root/folder/…`, class by class and sorted by path, with the class's index.

    Args:
        root: Folder of class folders.
        folders: The classes in the order of their indices, with their folders.
        left_out: Counts what is no image. Defaults to `None`.
    """
    paths: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(folders.values()):
        found = sorted(f"{folder}/{path}" for path in find_images(root / folder, left_out))
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, "int32")
