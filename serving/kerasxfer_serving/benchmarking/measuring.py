"""Timing of repeated work: warmed up until stable, repeated, with its spread and every raw sample.

Work is an endless iterator: each item is the number of images that one step (a batch, a query) has done. What other
processes took of the cores meanwhile is watched by `Contention`.
"""

import math
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from kerasxfer_serving.benchmarking.percentiles import latency
from kerasxfer_serving.runtime.resources import map_in_order

_IDLE, _IO_WAIT = 3, 4  # places in a line of `/proc/stat`

LATENCIES = ("latency", "single_stream")
"""Measurements whose steps are single runs, one after the other: only those have a latency."""


@dataclass(frozen=True)
class Rules:
    """When a measurement counts.

    Args:
        seconds: Least time of a measurement, all repeats together.
        repeats: Number of repeats.
        batches: Least number of steps of each repeat.
        spread: Largest `(max - min) / median` of the repeats.
        stable: Warm-up ends when the rates of three windows in a row are this close.
    """

    seconds: float = 10.0
    repeats: int = 3
    batches: int = 3
    spread: float = 0.1
    stable: float = 0.05


@dataclass(frozen=True)
class Repeat:
    """One repeat: images done, and the seconds that each step took."""

    images: int
    steps: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Time of the whole repeat."""
        return math.fsum(self.steps)

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds


@dataclass(frozen=True)
class Measurement:
    """A figure with everything it was made of.

    Args:
        name: What was measured: `"decode"`, `"decode_resize"`, `"device"`, `"latency"`, `"end_to_end"`,
            `"single_stream"`.
        batch_size: Images of a step, or `None` where there are no batches.
        repeats: The raw samples.
        warm_up_seconds: Time before the first repeat.
        stable: Whether the warm-up ended because the rate was stable.
    """

    name: str
    batch_size: int | None
    repeats: tuple[Repeat, ...]
    warm_up_seconds: float
    stable: bool

    @property
    def rate(self) -> float:
        """Images a second: the median of the repeats."""
        return statistics.median(repeat.rate for repeat in self.repeats)

    @property
    def spread(self) -> float:
        """`(max - min) / median` of the repeats' rates."""
        rates = [repeat.rate for repeat in self.repeats]
        return (max(rates) - min(rates)) / self.rate if self.rate else math.inf

    @property
    def steps(self) -> list[float]:
        """Seconds of every step of all repeats."""
        return [step for repeat in self.repeats for step in repeat.steps]

    def failures(self, rules: Rules) -> dict[str, str]:
        """Why this figure is not to be trusted, as rule and the measured value; empty where it is."""
        seconds = sum(repeat.seconds for repeat in self.repeats)
        fewest = min(len(repeat.steps) for repeat in self.repeats)
        found = {}
        if not self.stable:
            found["no stable rate in the warm-up"] = f"{self.warm_up_seconds:.1f} s"
        if self.spread > rules.spread:
            found[f"the repeats differ by more than {rules.spread:.0%}"] = f"{self.spread:.0%}"
        if seconds < rules.seconds * 0.999:
            found[f"measured for less than {rules.seconds:g} s"] = f"{seconds:.1f} s"
        if len(self.repeats) < rules.repeats or fewest < rules.batches:
            found[f"less than {rules.repeats} repeats of {rules.batches} steps"] = f"{len(self.repeats)} of {fewest}"
        if self.name == "single_stream" and latency(self.steps)["at_most"]["p90"] is None:
            found["too few queries to know anything of p90"] = f"{len(self.steps)}"
        return found

    def to_dict(self) -> dict[str, Any]:
        """Figures and raw samples, for JSON."""
        return {
            "name": self.name,
            "batch_size": self.batch_size,
            "rate": self.rate,
            "spread": self.spread,
            "latency_ms": latency(self.steps) if self.name in LATENCIES else None,
            "padding": self.padding,
            "warm_up_seconds": self.warm_up_seconds,
            "stable": self.stable,
            "repeats": [
                {"images": repeat.images, "seconds": repeat.seconds, "steps": [round(step, 7) for step in repeat.steps]}
                for repeat in self.repeats
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Measurement":
        """The measurement whose raw samples `to_dict` gave."""
        repeats = tuple(Repeat(repeat["images"], tuple(repeat["steps"])) for repeat in data["repeats"])
        return cls(data["name"], data["batch_size"], repeats, data["warm_up_seconds"], data["stable"])

    @property
    def padding(self) -> float:
        """Share of the places in batches that held no readable image; those are not counted in any rate."""
        places = sum(len(repeat.steps) for repeat in self.repeats) * (self.batch_size or 1)
        return 1 - sum(repeat.images for repeat in self.repeats) / places

    @property
    def label(self) -> str:
        """Name with the batch size."""
        return self.name if self.batch_size is None else f"{self.name}, batch {self.batch_size}"


def measure(
    work: Iterator[int], name: str, batch_size: int | None = None, *, duration: float, rules: Rules
) -> Measurement:
    """Measure endless work.

    Args:
        work: Each item is the images done by one step.
        name: See `Measurement`.
        batch_size: See `Measurement`.
        duration: Seconds of all repeats together; more where `rules.batches` need it.
        rules: Number of repeats and what ends the warm-up.
    """
    warm_up_seconds, stable = _warm_up(work, duration, rules)
    repeats = [_repeat(work, duration / rules.repeats, rules.batches) for _ in range(rules.repeats)]
    return Measurement(name, batch_size, tuple(repeats), warm_up_seconds, stable)


def concurrently(work: Callable[[int], int], workers: int) -> Iterator[int]:
    """Endless work, `workers` calls at once: the results of `work(0)`, `work(1)`, … in order."""
    return map_in_order(work, count(), workers)


def _warm_up(work: Iterator[int], longest: float, rules: Rules) -> tuple[float, bool]:
    """Work until three windows in a row have about the same rate, or it has taken too long."""
    started = time.perf_counter()
    window = min(0.5, longest / 10)
    rates: deque[float] = deque(maxlen=3)
    stable = False
    while not stable and (time.perf_counter() - started < longest or len(rates) < 3):
        rates.append(_repeat(work, window, 1).rate)
        stable = len(rates) == 3 and max(rates) - min(rates) <= rules.stable * max(rates)
    return time.perf_counter() - started, stable


def _repeat(work: Iterator[int], seconds: float, batches: int) -> Repeat:
    images = 0
    steps: list[float] = []
    before = start = time.perf_counter()
    while before - start < seconds or len(steps) < batches:
        images += next(work)
        now = time.perf_counter()
        steps.append(now - before)
        before = now
    return Repeat(images, tuple(steps))


class Contention:
    """Watches from its making on what others use of the cores that this process may use."""

    def __init__(self) -> None:
        self._start = _snapshot()

    def cores_of_others(self) -> float | None:
        """Cores that others kept busy on average; `None` where the system does not tell (not Linux)."""
        now = _snapshot()
        if self._start is None or now is None:
            return None
        elapsed, busy, own = (after - before for after, before in zip(now, self._start, strict=True))
        return max(0.0, (busy - own) / elapsed)


def _snapshot() -> tuple[float, float, float] | None:
    """Seconds: the clock's, those in which our cores were busy, and those in which they were busy for us."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return None
    ticks = 0
    for line in lines:
        name, *fields = line.split()
        if name in ours:  # user, nice, system, idle, iowait, irq, softirq, steal; the guests' are in user already
            ticks += sum(int(value) for place, value in enumerate(fields[:8]) if place not in (_IDLE, _IO_WAIT))
    own = os.times()
    return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), own.user + own.system
