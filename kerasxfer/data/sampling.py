"""What comes when in an epoch: each row once, or every class as often as any other."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EpochOrder:
    """The rows of an epoch.

    Args:
        epoch: Number of the epoch.
        rows: Row numbers, in their order.
    """

    epoch: int
    rows: NDArray[np.intp]

    @functools.cached_property
    def repetitions(self) -> NDArray[np.intp]:
        """For each place in the order, how often its row has come before."""
        return repetitions(self.rows)


def balanced_order(labels: NDArray[np.int32], seed: int, epoch: int) -> NDArray[np.intp]:
    """Row numbers of an epoch in which every class has as many rows, give or take one, and the rows of a class turns.

    An epoch is as long as without: of a large class it leaves rows out, which later epochs have, and those of a small
    one it repeats. What comes when depends on the arguments alone.

    Args:
        labels: Class index of each row, `[n]`.
        seed: Seed of the orders.
        epoch: Number of the epoch, from 0.

    Returns:
        Row numbers, `[n]`.
    """
    present, counts = np.unique(labels, return_counts=True)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    start = epoch * len(labels)  # in a sequence without end, in which the classes take turns
    rows = np.empty(len(labels), np.intp)
    for turn, (label, members) in enumerate(zip(present, by_class, strict=True)):
        mine = np.arange((turn - start) % len(present), len(labels), len(present))
        passes, places = np.divmod((start + mine) // len(present), len(members))
        for number in np.unique(passes):
            shuffled = np.random.default_rng((seed, int(label), int(number), 1)).permutation(members)
            rows[mine[passes == number]] = shuffled[places[passes == number]]
    return np.random.default_rng((seed, epoch)).permutation(rows)


def repetitions(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """How often each row has come before in the order."""
    by_row = np.argsort(rows, kind="stable")
    _, firsts, counts = np.unique(rows[by_row], return_index=True, return_counts=True)
    turns = np.empty(len(rows), np.intp)
    turns[by_row] = np.arange(len(rows)) - np.repeat(firsts, counts)
    return turns
