"""Files that are unlike what a classifier is usually trained on, or no images at all."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kerasxfer_serving.image_io.decoding import ERROR_CODES
from kerasxfer_serving.inputs.walk import LeftOut

from kerasxfer.auditing.findings import AuditedImages, Finding, named_path
from kerasxfer.auditing.inspection import ImageFacts
from kerasxfer.data.image_files import BadImage, choose_classes, find_labelled_images

SMALL = 64
ASPECT = 2.5
SATURATION = 4.0
CONTRAST = 15.0
CONSTANT = 1.0
SHARPNESS = 50.0


def odd_files(images: AuditedImages, bad_images: Sequence[tuple[str, str, BadImage]]) -> list[Finding]:
    """What is odd about files: those that cannot be read first, then what matters most.

    Args:
        images: The images.
        bad_images: The set's name, the path as decisions name it, and what is wrong.
    """
    findings = [
        Finding(path, "cannot be read", f"{ERROR_CODES.get(bad.code, bad.code)} ({bad.code}).", "exclude", subset, "")
        for subset, path, bad in bad_images
    ]
    odd = [
        (rank, row, problem, reason)
        for row, facts in enumerate(images.facts)
        for rank, (problem, reason) in _oddities(facts)
    ]
    return findings + [images.finding(row, problem, reason) for _, row, problem, reason in sorted(odd)]


def not_images(subset: str, root: Path) -> Iterator[Finding]:
    """What a folder of class folders holds and is not taken for an image, one by one.

    Args:
        subset: The set's name.
        root: The folder.
    """
    left_out = LeftOut(kept=sys.maxsize)
    find_labelled_images(root, choose_classes(root, None, left_out), left_out)
    for reason, paths in left_out.examples.items():
        for path in paths:
            yield Finding(
                named_path(Path(), path), "not an image", f"Not taken for an image: {reason}.", "look", subset, ""
            )


def _oddities(facts: ImageFacts) -> Iterator[tuple[int, tuple[str, str]]]:
    size = f"{facts.width} × {facts.height} pixels"
    if facts.contrast < CONSTANT:
        yield 0, ("constant", "All of it has one brightness.")
    elif facts.contrast < CONTRAST:
        yield 1, ("low contrast", f"The standard deviation of its brightness is {facts.contrast:.1f} of 255.")
    if min(facts.width, facts.height) < SMALL:
        yield 2, ("tiny", f"It has {size}.")
    aspect = max(facts.width, facts.height) / min(facts.width, facts.height)
    if aspect > ASPECT:
        yield 3, ("extreme aspect", f"It has {size}: one side is {aspect:.1f} times the other.")
    if facts.saturation < SATURATION:
        yield 4, ("grey", f"Its channels differ by {facts.saturation:.1f} of 255 on average.")
    if facts.orientation != 1:
        yield 5, ("turned by EXIF", f"It is upright only where EXIF orientation {facts.orientation} is obeyed.")
    if facts.contrast >= CONSTANT and facts.sharpness < SHARPNESS:
        yield 6, ("perhaps blurred", f"The variance of its Laplacian is {facts.sharpness:.0f}; a hint, no more.")
