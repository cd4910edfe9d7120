"""Percentiles of latency, and none without the samples for it: MLPerf's LoadGen sets the counts."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

PERCENTILES = (0.5, 0.9, 0.99)
_CONFIDENCE = 0.99
_Z = statistics.NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)


def samples_needed(percentile: float) -> int:
    """Queries from which MLPerf's LoadGen takes a percentile for known: 99 % confidence, a twentieth of the tail off.

    Example:

    >>> samples_needed(0.9), samples_needed(0.99)
    (23886, 262742)
    """
    margin = (1 - percentile) / 20
    return math.ceil(_Z**2 * percentile * (1 - percentile) / margin**2)


def latency(steps: Sequence[float]) -> dict[str, Any]:
    """Percentiles of latency in milliseconds, as far as the samples allow.

    Returns:
        `samples`; `mean`, `min` and `max`; for every percentile its value, or `None` with less than `samples_needed`;
        and under `at_most` an upper bound of it with 99 % confidence (LoadGen's early stopping), `None` where not even
        that is known.
    """
    ordered = sorted(step * 1000 for step in steps)
    enough = {p: len(ordered) >= samples_needed(p) for p in PERCENTILES}
    return {
        "samples": len(ordered),
        "mean": statistics.fmean(ordered),
        "min": ordered[0],
        "max": ordered[-1],
        **{_key(p): ordered[math.ceil(p * len(ordered)) - 1] if enough[p] else None for p in PERCENTILES},
        "at_most": {_key(p): _upper_bound(ordered, p) for p in PERCENTILES},
    }


def _key(percentile: float) -> str:
    return f"p{percentile * 100:.0f}"


def _upper_bound(ordered: Sequence[float], percentile: float) -> float | None:
    """Smallest sample that lies above the percentile with 99 % confidence.

    The number of samples above a percentile is binomial: as many of the largest may be left out as are, with that
    confidence, above it.
    """
    n, above, probability = len(ordered), 0, 0.0
    while (probability := probability + _binomial(n, above, 1 - percentile)) <= 1 - _CONFIDENCE:
        above += 1
    return ordered[n - above] if above else None


def _binomial(n: int, k: int, p: float) -> float:
    """Probability of k successes; by logarithms, since the factors leave the range of floats."""
    coefficient = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(coefficient + k * math.log(p) + (n - k) * math.log1p(-p))
