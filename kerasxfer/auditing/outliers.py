"""Images that are like no others."""

import math

import numpy as np
from numpy.typing import NDArray

from kerasxfer.auditing.findings import AuditedImages, Finding

NEIGHBOURS = (26, 50)
"""The neighbours that count, by rank: images from elsewhere that are like each other hide in the nearest ones."""
SHARE = 0.02
"""Share of the images that is listed."""

_REFERENCES = 20_000
_BLOCK = 30_000_000


def likeness(directions: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32] | None:
    """How much each image is like its neighbours.

    Args:
        directions: Standardised features of length 1, `[images, channels]`.
        seed: Seed of the draw of the 20,000 images that neighbours are looked for among, where there are more.
            Defaults to `0`.

    Returns:
        Mean cosine to the 26th to 50th nearest images, `[images]`; `None` for fewer than twice as many images.
    """
    count = len(directions)
    nearest, farthest = NEIGHBOURS
    if count < 2 * farthest:
        return None
    drawn = np.random.default_rng(seed).permutation(count)[:_REFERENCES] if count > _REFERENCES else np.arange(count)
    place = np.full(count, -1)
    place[drawn] = np.arange(len(drawn))
    references = directions[drawn].T.copy()
    result = np.empty(count, np.float32)
    step = max(64, _BLOCK // len(drawn))
    for start in range(0, count, step):
        cosines = directions[start : start + step] @ references
        among = np.flatnonzero(place[start : start + step] >= 0)
        cosines[among, place[start + among]] = -1.0  # no image is its own neighbour
        cosines.partition((len(drawn) - farthest, len(drawn) - nearest), axis=1)
        result[start : start + step] = cosines[:, len(drawn) - farthest : len(drawn) - nearest + 1].mean(axis=1)
    return result


def outliers(images: AuditedImages, alike: NDArray[np.float32]) -> list[Finding]:
    """The images that are the least like their neighbours, the least first.

    Args:
        images: The images.
        alike: As `likeness` gives it.
    """
    usual = float(np.median(alike))
    nearest, farthest = NEIGHBOURS
    return [
        images.finding(
            row,
            "outlier",
            f"Its mean cosine to the {nearest}th to {farthest}th nearest images is {alike[row]:.2f}; "
            f"that of an image in the middle is {usual:.2f}.",
        )
        for row in np.argsort(alike, kind="stable")[: math.ceil(SHARE * len(alike))].tolist()
    ]
