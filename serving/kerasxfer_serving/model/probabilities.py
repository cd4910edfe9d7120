"""Whether what a model gives is what its manifest says: looked at on data, not believed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.model.manifest import Manifest

_TOLERANCE = 0.02
_QUANTUM = 1 / 255  # of a probability that was quantised to eight bits


def check_probabilities(rows: NDArray[Any], manifest: Manifest) -> None:
    """Refuse a model whose output is not what its manifest says.

    Args:
        rows: `[n, columns]`, the model's answers to some images.
        manifest: What the model says of itself, or somebody of it.

    Raises:
        ModelError: They are not probabilities, or no softmax though the manifest says so; with what mends it.
    """
    rows = rows[np.isfinite(rows).all(axis=1)]  # one that is not has a status of its own
    if not rows.size:
        return
    low, high = float(np.min(rows)), float(np.max(rows))
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise _mistaken(manifest, f"are from {low:.4g} to {high:.4g}", "logits")
    if manifest.output == "softmax" and rows.shape[1] > 1:
        sums = rows.sum(axis=1, dtype=np.float64)
        worst = float(sums[np.argmax(np.abs(sums - 1))])
        if abs(worst - 1) > _TOLERANCE + rows.shape[1] * _QUANTUM / 2:
            raise _mistaken(manifest, f"are from 0 to 1, and of one image sum to {worst:.4g}", "sigmoid")


def _mistaken(manifest: Manifest, seen: str, instead: str) -> ModelError:
    if manifest.output == "logits":
        return ModelError(f"The model gives no figures that can be made probabilities: after softmax they {seen}.")
    return ModelError(
        f"The model's output `{manifest.output_name}` is said to be {manifest.output}, but its values {seen}. Say what "
        f'it is: `--activation {instead}`, or `"output": "{instead}"` in the sidecar.'
    )
