"""What differs between two reports, and whether a figure differs by more than its own repeats do."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kerasxfer_serving.benchmarking.measuring import Measurement
from kerasxfer_serving.benchmarking.report import Report

# What must be equal for two figures to be about the same thing, by part of the report.
_CIRCUMSTANCES = {
    "model": ("sha256", "precision", "opset", "image_size"),
    "preprocessing": ("policy", "golden"),
    "data": ("sha256", "pictures", "bad"),
    "device": ("device", "providers", "provider_options", "placement", "tf32", "threads", "workers"),
    "settings": ("duration", "rules"),
    "environment": ("cpu", "gpus", "cuda", "versions", "platform"),
}


@dataclass(frozen=True)
class Change:
    """One figure in both reports.

    Attributes:
        label: Name of the measurement with its batch size.
        before: Images a second in the first report.
        after: Images a second in the second report.
        beyond_spread: Whether the repeats of one report all lie on one side of those of the other.
    """

    label: str
    before: float
    after: float
    beyond_spread: bool

    @property
    def ratio(self) -> float:
        """How many times as fast the second is."""
        return self.after / self.before if self.before else math.inf

    @property
    def verdict(self) -> str:
        """`"faster"`, `"slower"`, or `"within the spread"`."""
        if not self.beyond_spread:
            return "within the spread"
        return "faster" if self.after > self.before else "slower"


@dataclass(frozen=True)
class Comparison:
    """Two reports side by side.

    Attributes:
        changes: The figures that both have.
        only: Labels of figures that one of them lacks.
        differences: Circumstances that are not the same, as (name, first, second).
        invalid: Which of the two, `"A"` or `"B"`, are invalid themselves.
    """

    changes: list[Change]
    only: list[str]
    differences: list[tuple[str, Any, Any]]
    invalid: list[str]


def compare(before: Report, after: Report) -> Comparison:
    """Compare two reports.

    Example:

    ```python
    comparison = compare(Report.read("a.json"), Report.read("b.json"))
    [(change.label, change.ratio, change.verdict) for change in comparison.changes]
    ```
    """
    first, second = ({m.label: m for m in report.measurements} for report in (before, after))
    return Comparison(
        changes=[_change(first[label], second[label]) for label in first if label in second],
        only=sorted(first.keys() ^ second.keys()),
        differences=list(_differences(before, after)),
        invalid=[name for name, report in (("A", before), ("B", after)) if not report.valid],
    )


def _change(before: Measurement, after: Measurement) -> Change:
    first, second = ([repeat.rate for repeat in measurement.repeats] for measurement in (before, after))
    apart = max(first) < min(second) or max(second) < min(first)
    return Change(before.label, before.rate, after.rate, apart)


def _differences(before: Report, after: Report) -> Iterator[tuple[str, Any, Any]]:
    for part, names in _CIRCUMSTANCES.items():
        for name in names:
            yield from _unequal(f"{part}.{name}", getattr(before, part).get(name), getattr(after, part).get(name))


def _unequal(name: str, first: Any, second: Any) -> Iterator[tuple[str, Any, Any]]:
    """The places where two values differ; mappings are looked into."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in sorted(first.keys() | second.keys()):
            yield from _unequal(f"{name}.{key}", first.get(key), second.get(key))
    elif first != second:
        yield name, first, second
