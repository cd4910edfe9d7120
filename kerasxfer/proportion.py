"""A share of counted things with how far it can be trusted."""

import math
from typing import NamedTuple

_Z = 1.959963984540054  # two-sided 95 % of the normal distribution


class Proportion(NamedTuple):
    """A share of counted things, with its 95 % Wilson interval.

    Wilson's interval stays inside of 0–1 and holds for few things, and for shares near 0 and 1, where the normal
    approximation does not ([Wilson 1927](https://doi.org/10.1080/01621459.1927.10502953)).
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, part: int, total: int) -> "Proportion":
        """From counts.

        Args:
            part: How many of the things have the property.
            total: How many there are, at least 1.
        """
        share = part / total
        shrink = 1 + _Z**2 / total
        centre = (share + _Z**2 / (2 * total)) / shrink
        half = _Z / shrink * math.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2))
        return cls(share, max(0.0, centre - half), min(1.0, centre + half))
