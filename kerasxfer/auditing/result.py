"""The result of an audit."""

from dataclasses import dataclass
from pathlib import Path

from kerasxfer.auditing.findings import Finding


@dataclass(frozen=True)
class CleanAccuracy:
    """The accuracy of a linear head on a set, with and without the images that are in training too.

    Args:
        subset: `"validation"` or `"test"`.
        images: Number of images in the set.
        leaked: How many of them are copies of images that are trained on.
        accuracy: On all of them.
        without_leaked: On the others; `None` where there are none.
    """

    subset: str
    images: int
    leaked: int
    accuracy: float
    without_leaked: float | None

    def __str__(self) -> str:
        """In a sentence."""
        if not self.leaked:
            return (
                f"No image of {self.subset} is a copy of one in train. A linear head is right on {self.accuracy:.1%}."
            )
        clean = "nothing is left" if self.without_leaked is None else f"{self.without_leaked:.1%}"
        return (
            f"{self.leaked:,} of {self.images:,} images of {self.subset} are copies of images in train. A linear head "
            f"is right on {self.accuracy:.1%} of all, without them: {clean}."
        )


@dataclass(frozen=True)
class Audit:
    """What an audit has found, in four lists; the first of each is the worst.

    Args:
        images: Number of images that can be read, by set.
        class_names: Names of the classes.
        labels: Labels that the features speak against.
        duplicates: Copies, within sets and across them.
        outliers: Images that are like no others.
        files: Files that cannot be read, or are odd.
        accuracy: Accuracy of a linear head out of fold on all images; `None` where there are too few for one.
        clean: The accuracy on validation and test images without leaked ones.
        notes: What limits the lists, in sentences.
        roots: Folder of each set by its name.
    """

    images: dict[str, int]
    class_names: list[str]
    labels: list[Finding]
    duplicates: list[Finding]
    outliers: list[Finding]
    files: list[Finding]
    accuracy: float | None
    clean: list[CleanAccuracy]
    notes: list[str]
    roots: dict[str, Path]

    @property
    def lists(self) -> dict[str, list[Finding]]:
        """The four lists by name."""
        return {name: getattr(self, name) for name in ("labels", "duplicates", "outliers", "files")}

    def shortened(self, path: str) -> str:
        """The path of a finding without the folder of its set."""
        roots = (root for root in self.roots.values() if Path(path).is_relative_to(root))
        return next((Path(path).relative_to(root).as_posix() for root in roots), path)
