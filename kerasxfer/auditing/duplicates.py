"""Copies of images: equal files, equal pixels, and pixels that were cropped, mirrored, resized or encoded anew."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasxfer.auditing.findings import AuditedImages, Finding
from kerasxfer.auditing.inspection import ImageFacts

ALIKE = 0.80
"""Cosine of standardised features from which two images are one; between backbones it is the same, and raw cosines are
not."""
RULES = ((0.60, 12), (0.50, 5))
"""Less alike, they are one if no more than so many of the 64 bits of their difference hashes differ."""
LOOK_ALIKE = 0.70
"""From here on they are worth a look."""

_PARTNERS = 8
"""Copies that are kept of each image: enough to find all of a cluster by."""
_BLOCK = 30_000_000


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images, each with the smaller row first.

    Args:
        first: Rows, `[pairs]`.
        second: Rows, `[pairs]`.
        cosine: Of the standardised features, `[pairs]`.
        kind: `"same bytes"`, `"same pixels"`, `"near copy"` or `"look-alike"`, `[pairs]`.
        mirrored: Whether one is more like the mirror image of the other, `[pairs]`.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    cosine: NDArray[np.float32]
    kind: NDArray[np.str_]
    mirrored: NDArray[np.bool_]

    @property
    def copies(self) -> NDArray[np.bool_]:
        """Which pairs are of one image, `[pairs]`; the others only look alike."""
        return np.asarray(self.kind != "look-alike")

    @property
    def equal(self) -> NDArray[np.bool_]:
        """Which pairs have equal pixels, `[pairs]`."""
        return np.isin(self.kind, ("same bytes", "same pixels"))


def find_pairs(directions: NDArray[np.float32], facts: Sequence[ImageFacts]) -> Pairs:
    """Find the images that are there more than once.

    Every image is compared with every other one, exactly, in blocks: 100,000 of 768 features take minutes, not an
    index. Images turned by 90° are not found.

    Args:
        directions: Standardised features of length 1, `[images, channels]`.
        facts: What is known about each image.

    Returns:
        The pairs, in the order of their rows.
    """
    shapes = np.array([each.shape for each in facts], np.uint64)
    mirrored = np.array([each.mirrored for each in facts], np.uint64)
    found = [_equal(directions, facts), *_near(directions, shapes, mirrored)]
    first, second, cosine, kind, flipped = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # Equal files stand before equal pixels, and these before near copies: the first of each pair says most.
    _, chosen = np.unique(np.stack([first, second], axis=1), axis=0, return_index=True)
    return Pairs(first[chosen], second[chosen], cosine[chosen], kind[chosen], flipped[chosen])


def clusters(count: int, pairs: Pairs, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number the images so that all copies of one have one number.

    Args:
        count: Number of images.
        pairs: Pairs of them.
        mask: Which pairs count, `[pairs]`.

    Returns:
        For each image the smallest row among its copies, `[images]`.
    """
    parent = list(range(count))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for first, second in zip(pairs.first[mask].tolist(), pairs.second[mask].tolist(), strict=True):
        one, other = sorted((root(first), root(second)))
        parent[other] = one
    return np.array([root(row) for row in range(count)], np.intp)


_Found = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32], NDArray[np.str_], NDArray[np.bool_]]


def _equal(directions: NDArray[np.float32], facts: Sequence[ImageFacts]) -> _Found:
    rows: list[tuple[int, int]] = []
    kinds: list[str] = []
    for kind, keys in (
        ("same bytes", [each.sha256 for each in facts]),
        ("same pixels", [each.pixels for each in facts]),
    ):
        members: dict[str, list[int]] = defaultdict(list)
        for row, key in enumerate(keys):
            members[key].append(row)
        pairs = [(group[0], row) for group in members.values() for row in group[1:]]
        rows += pairs
        kinds += [kind] * len(pairs)
    first, second = np.array(rows, np.intp).reshape(-1, 2).T
    cosine = np.einsum("ij,ij->i", directions[first], directions[second])
    return first, second, cosine, np.array(kinds, "U11"), np.zeros(len(kinds), bool)


def _near(directions: NDArray[np.float32], shapes: NDArray[np.uint64], mirrored: NDArray[np.uint64]) -> list[_Found]:
    count = len(directions)
    least = min(LOOK_ALIKE, *(cosine for cosine, _ in RULES))
    found = []
    step = max(64, _BLOCK // max(count, 1))
    for start in range(0, count, step):
        stop = min(start + step, count)
        block = directions[start:stop] @ directions[start:].T
        block[np.tril_indices(stop - start)] = -1.0  # itself, and pairs that the other row has
        near, other = np.nonzero(block >= least)
        cosine = block[near, other]
        first, second = near + start, other + start
        straight, flipped = (
            differing_bits(shapes[first], shapes[second]),
            differing_bits(shapes[first], mirrored[second]),
        )
        bits = np.minimum(straight, flipped)
        copies = cosine >= ALIKE
        for alike, most in RULES:
            copies |= (cosine >= alike) & (bits <= most)
        kept = np.flatnonzero(copies | (cosine >= LOOK_ALIKE))
        kept = kept[_best(first[kept], cosine[kept] + copies[kept])]
        kind = np.where(copies[kept], "near copy", "look-alike").astype("U11")
        found.append((first[kept], second[kept], cosine[kept], kind, (flipped < straight)[kept]))
    return found


def differing_bits(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Number of bits that differ, pair by pair."""
    return np.asarray(np.unpackbits((one ^ other).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1, dtype=np.intp))


def _best(row: NDArray[np.intp], score: NDArray[np.float32]) -> NDArray[np.intp]:
    """Places of the `_PARTNERS` best of each row."""
    order = np.lexsort((-score, row))
    rows = row[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return np.sort(order[rank < _PARTNERS])


def leaked(images: AuditedImages, pairs: Pairs, subset: str) -> NDArray[np.bool_]:
    """Which images are in a set and, as a copy, in training too, `[images]`."""
    training, inside = images.subsets == "train", images.subsets == subset
    mask = np.zeros(len(images.labels), bool)
    first, second = pairs.first[pairs.copies], pairs.second[pairs.copies]
    mask[second[training[first] & inside[second]]] = True
    return mask


def duplicates(images: AuditedImages, pairs: Pairs) -> list[Finding]:
    """The pairs as findings: leaks between sets first, then copies with another label, copies, and look-alikes.

    Of a leak the image is named that is trained on; of copies within a set, all but the first.

    Args:
        images: The images.
        pairs: Pairs of them.
    """
    ranked = []
    for number, (first, second, copies) in enumerate(
        zip(pairs.first.tolist(), pairs.second.tolist(), pairs.copies.tolist(), strict=True)
    ):
        across = images.subsets[first] != images.subsets[second]
        conflict = images.labels[first] != images.labels[second]
        where = f"; one is in {images.subsets[first]}, the other in {images.subsets[second]}" if across else ""
        reason = _reason(pairs, number, where + ("; their labels differ" if conflict else ""))
        if not copies:
            ranked.append((3, number, images.finding(second, "look-alike", reason, other=first)))
        elif conflict:
            problem = "leak, conflicting labels" if across else "conflicting labels"
            for row, other in ((first, second), (second, first)):
                ranked.append((0 if across else 1, number, images.finding(row, problem, reason, other=other)))
        elif across:
            ranked.append((0, number, images.finding(first, "leak", reason, "exclude", other=second)))
        else:
            ranked.append((2, number, images.finding(second, "duplicate", reason, "exclude", other=first)))
    ranked.sort(key=lambda item: (item[0], -float(pairs.cosine[item[1]]), item[1]))
    seen: set[tuple[str, str]] = set()
    kept = []
    for rank, _, finding in ranked:  # an image that has ten copies has one row
        key = (finding.path, finding.problem)
        if rank == 0 or key not in seen:
            kept.append(finding)
        seen.add(key)
    return kept


def _reason(pairs: Pairs, number: int, more: str) -> str:
    kind = str(pairs.kind[number])
    what = {
        "same bytes": "The files are equal, byte for byte",
        "same pixels": "The files differ and their pixels are equal",
        "near copy": "One is a near copy of the other" + (", mirrored" if pairs.mirrored[number] else ""),
        "look-alike": "They are alike, and may or may not be of one photograph",
    }[kind]
    return f"{what}{more} (cosine {pairs.cosine[number]:.2f})."
