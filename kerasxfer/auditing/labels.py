"""Labels that the features speak against."""

import math

import numpy as np
from numpy.typing import NDArray

from kerasxfer.auditing.findings import AuditedImages, Finding

SHARE = 0.05
"""Share of the images that is listed."""
SURE = 0.95
"""Accuracy out of fold from which a label may be called likely wrong."""
UNSURE = 0.80
"""Accuracy out of fold below which the list is mostly of images that the features cannot tell apart."""


def confidently_other(probabilities: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which images confident learning takes out of their class (Northcutt, Jiang and Chuang 2021, section 3).

    An image counts for a class if its probability is at least the mean of the images that are labelled so; of several
    such classes for the most probable one.

    Args:
        probabilities: Out of fold, `[images, classes]`.
        labels: Class indices as given, `[images]`.

    Returns:
        Whether an image counts for another class than its own, `[images]`.
    """
    classes = probabilities.shape[1]
    means = [probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in range(classes)]
    candidates = np.where(probabilities >= means, probabilities, -1.0)
    best = candidates.argmax(axis=1)
    return np.asarray((candidates.max(axis=1) >= 0) & (best != labels))


def doubtful_labels(images: AuditedImages, probabilities: NDArray[np.float64]) -> list[Finding]:
    """The images whose given label is the least probable, the worst first.

    Args:
        images: The images.
        probabilities: Out of fold, `[images, classes]`.
    """
    rows = np.arange(len(images.labels))
    chances = probabilities[rows, images.labels]
    sure = (probabilities.argmax(axis=1) == images.labels).mean() >= SURE
    likely = confidently_other(probabilities, images.labels)
    best = probabilities.argmax(axis=1)
    listed = np.argsort(chances, kind="stable")[: max(math.ceil(SHARE * len(rows)), 20)]
    findings = []
    for row in listed.tolist():
        name, given = images.class_names[best[row]], images.class_names[images.labels[row]]
        wrong = sure and likely[row] and best[row] != images.labels[row]
        findings.append(
            images.finding(
                row,
                "likely wrong label" if wrong else "doubtful label",
                f"A head that has not seen it gives {given} {chances[row]:.3f}"
                + (f", {name} {probabilities[row, best[row]]:.3f}." if best[row] != images.labels[row] else "."),
                f"label: {name}" if wrong else "look",
                suggested=int(best[row]) if best[row] != images.labels[row] else None,
            )
        )
    return findings
