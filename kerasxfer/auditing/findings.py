"""What an audit has found: one row for each problem of an image."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasxfer.auditing.inspection import ImageFacts


@dataclass(frozen=True)
class Finding:
    """A problem of an image.

    Args:
        path: The image: the folder as it was named, and the way from there.
        problem: What it is, in one or two words.
        reason: What speaks for it, in a sentence.
        suggestion: A decision, `"exclude"` or `"label: NAME"`; or `"look"`, where only a person can tell.
        subset: `"train"`, `"validation"` or `"test"`.
        given: The image's label.
        other: Path of the image that it is compared with. Defaults to `None`.
        other_given: The label of that image. Defaults to `None`.
        suggested: The label that the features speak for. Defaults to `None`.
    """

    path: str
    problem: str
    reason: str
    suggestion: str
    subset: str
    given: str
    other: str | None = None
    other_given: str | None = None
    suggested: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without what is `None`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class AuditedImages:
    """The images that can be read, of all sets, row by row.

    Args:
        roots: Folder of each set by its name, as it was given.
        paths: Paths relative to the root of their set.
        subsets: Name of each image's set, `[images]`.
        labels: Class indices, `[images]`.
        class_names: Names of the classes.
        facts: What is known about each image.
        features: Pooled features, `[images, channels]`.
    """

    roots: dict[str, Path]
    paths: list[str]
    subsets: NDArray[np.str_]
    labels: NDArray[np.intp]
    class_names: list[str]
    facts: list[ImageFacts]
    features: NDArray[np.float32]

    def finding(
        self,
        row: int,
        problem: str,
        reason: str,
        suggestion: str = "look",
        *,
        other: int | None = None,
        suggested: int | None = None,
    ) -> Finding:
        """A finding about the image in a row."""
        return Finding(
            self.path(row),
            problem,
            reason,
            suggestion,
            str(self.subsets[row]),
            self.class_names[self.labels[row]],
            None if other is None else self.path(other),
            None if other is None else self.class_names[self.labels[other]],
            None if suggested is None else self.class_names[suggested],
        )

    def path(self, row: int) -> str:
        """The path of the image in a row, as decisions name it."""
        return named_path(self.roots[str(self.subsets[row])], self.paths[row])


def named_path(root: Path, path: str) -> str:
    """The path of an image as decisions name it: below its folder as that was named.

    A spreadsheet would take a path that begins with one of a few characters for a formula: `./` stands before these.
    """
    named = (root / path).as_posix()
    return f"./{named}" if named[0] in "=+-@\t" else named
