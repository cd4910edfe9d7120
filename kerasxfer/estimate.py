"""A figure with how far it can be trusted."""

import math
from dataclasses import dataclass

_Z = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval, of 95 % unless something else is said."""

    value: float
    low: float
    high: float

    @classmethod
    def of_share(cls, part: int, total: int) -> "Estimate":
        """A share of counted things, with Wilson's interval.

        It stays inside of 0–1 and holds for few things, and for shares near 0 and 1, where the normal approximation
        does not ([Wilson 1927](https://doi.org/10.1080/01621459.1927.10502953)).

        Args:
            part: How many of the things have the property.
            total: How many there are, at least 1.

        Example:

        ```python
        accuracy = Estimate.of_share(90, 100)
        assert (round(accuracy.low, 3), round(accuracy.high, 3)) == (0.826, 0.945)
        ```
        """
        return cls.of_wilson(part / total, total)

    @classmethod
    def of_wilson(cls, share: float, total: float, z: float = _Z) -> "Estimate":
        """As `of_share`, of a share that is known.

        Args:
            share: The share, from 0 to 1.
            total: How many things there are, or how many would tell as much.
            z: Half-width of the interval in standard errors. Defaults to that of 95 %.
        """
        shrink = 1 + z**2 / total
        centre = (share + z**2 / (2 * total)) / shrink
        half = z / shrink * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
        # At the ends the interval reaches 0 and 1 exactly, which sums of floats miss.
        return cls(share, centre - half if share > 0 else 0.0, centre + half if share < 1 else 1.0)

    def __str__(self) -> str:
        return f"{self.value:.2%} ({self.low:.2%} to {self.high:.2%})"
