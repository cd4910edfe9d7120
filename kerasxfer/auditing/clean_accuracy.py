"""How good a linear head is on other sets, with the images that it was fitted on and without them."""

import numpy as np

from kerasxfer.auditing import duplicates
from kerasxfer.auditing.findings import AuditedImages
from kerasxfer.auditing.result import CleanAccuracy
from kerasxfer.probing.probe import held_out


def clean_accuracies(images: AuditedImages, pairs: duplicates.Pairs, strength: float) -> list[CleanAccuracy]:
    """Fit a linear head on the images for training, and let it answer to those of each other set.

    Args:
        images: The images.
        pairs: Pairs of them.
        strength: As `out_of_fold` has chosen it.
    """
    training = images.subsets == "train"
    others = [name for name in images.roots if name != "train"]
    if not others:
        return []
    answers = held_out(
        images.features[training],
        images.labels[training],
        images.features[~training],
        len(images.class_names),
        strength,
    )
    right = np.zeros(len(training), bool)
    right[~training] = answers.argmax(axis=1) == images.labels[~training]
    figures = []
    for name in others:
        inside, copied = images.subsets == name, duplicates.leaked(images, pairs, name)
        rest = inside & ~copied
        figures.append(
            CleanAccuracy(
                name,
                int(inside.sum()),
                int(copied.sum()),
                float(right[inside].mean()),
                float(right[rest].mean()) if rest.any() else None,
            )
        )
    return figures
