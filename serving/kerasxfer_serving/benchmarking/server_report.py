"""What a benchmark of a server found, and what differs between two of them."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kerasxfer_serving.benchmarking.compare import Change, Comparison
from kerasxfer_serving.benchmarking.load import Sent
from kerasxfer_serving.benchmarking.percentiles import latency
from kerasxfer_serving.files import write_atomically, writing

FORMAT = "kerasxfer-server-benchmark"
FORMAT_VERSION = 1
LEAST_QUERIES = 500
"""Requests of each rate, at least: 459 bound p99 with 99 % confidence."""

_LATE = 0.1  # share of the target that a client may be behind its own schedule


@dataclass(frozen=True)
class Step:
    """What happened at one rate.

    Attributes:
        rate: Requests a second that were sent.
        latencies: Seconds of each, from when it was due.
        statuses: How often each HTTP status was answered; 0 stands for no answer.
        lateness: The 99th percentile of how late the client sent, in seconds.
    """

    rate: float
    latencies: tuple[float, ...]
    statuses: Mapping[str, int]
    lateness: float

    @classmethod
    def of(cls, rate: float, sent: Sequence[Sent]) -> "Step":
        """The step that requests make."""
        late = sorted(request.lateness for request in sent)[int(0.99 * (len(sent) - 1))]
        statuses = Counter(str(request.status) for request in sent)
        return cls(rate, tuple(round(request.latency, 6) for request in sent), dict(statuses), late)

    @property
    def p99(self) -> float:
        """Milliseconds that 99 of 100 requests take at most, with 99 % confidence; infinite where that is not known."""
        bound = latency(self.latencies)["at_most"]["p99"]
        return float("inf") if bound is None else float(bound)

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return sum(count for status, count in self.statuses.items() if status != "200")

    def holds(self, target: float) -> bool:
        """Whether every request was answered, and 99 of 100 within `target` milliseconds."""
        return self.failed == 0 and self.p99 <= target


@dataclass(frozen=True)
class ServerReport:
    """What a benchmark of a server found.

    Attributes:
        url: The server.
        model: Its model: name, version, hash.
        data: The images that were sent.
        target: Milliseconds that 99 of 100 requests may take.
        steps: What happened at each rate, rising.
        environment: Of the client.
        created: Date and time, ISO 8601.
    """

    url: str
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    target: float
    steps: Sequence[Step]
    environment: Mapping[str, Any] = field(repr=False)
    created: str

    @property
    def highest_rate(self) -> float | None:
        """The highest rate that holds the target, as do all below it; `None` where the lowest does not."""
        held = None
        for step in self.steps:
            if not step.holds(self.target):
                break
            held = step.rate
        return held

    @property
    def reasons(self) -> list[str]:
        """Why the figures are not to be quoted; empty for a valid report."""
        found = [
            f"at {step.rate:g}/s the client was {step.lateness * 1000:.0f} ms behind its own schedule"
            for step in self._trusted()
            if step.lateness > _LATE * self.target / 1000
        ]
        found += [
            f"at {step.rate:g}/s there were {len(step.latencies)} queries, too few to bound p99"
            for step in self.steps
            if len(step.latencies) < LEAST_QUERIES
        ]
        if self.highest_rate is None:
            found.append(f"the lowest rate does not hold p99 ≤ {self.target:g} ms")
        elif self.steps[-1].holds(self.target):
            found.append("the highest rate that was tried holds: the server can do more")
        return found

    @property
    def valid(self) -> bool:
        """Whether the figures count."""
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "verdict": "VALID" if self.valid else "INVALID",
            "reasons": self.reasons,
            "highest_rate": self.highest_rate,
            **asdict(self),
        }

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, whole or not at all."""
        with writing(path):
            write_atomically(path, json.dumps(self.to_dict(), ensure_ascii=False, default=str) + "\n")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ServerReport":
        """The report that `to_dict` described."""
        steps = [Step(**step | {"latencies": tuple(step["latencies"])}) for step in data["steps"]]
        names = ("url", "model", "data", "target", "environment", "created")
        return cls(steps=steps, **{name: data[name] for name in names})

    def _trusted(self) -> Iterator[Step]:
        """The steps that `highest_rate` rests on."""
        return (step for step in self.steps if self.highest_rate is not None and step.rate <= self.highest_rate)


def compare_servers(before: ServerReport, after: ServerReport) -> Comparison:
    """Compare two reports of servers: the highest rate that holds, and p99 at every rate that both tried."""
    first, second = ({step.rate: step for step in report.steps} for report in (before, after))
    changes = [_compare_steps(first[rate], second[rate]) for rate in first if rate in second]
    if before.highest_rate and after.highest_rate:
        label = f"highest rate, p99 ≤ {after.target:g} ms"
        differ = before.highest_rate != after.highest_rate
        changes.insert(0, Change(label, before.highest_rate, after.highest_rate, differ))
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in ("model", "data", "target"))
    return Comparison(
        changes=changes,
        only=[f"{rate:g}/s" for rate in sorted(first.keys() ^ second.keys())],
        differences=[pair for pair in pairs if pair[1] != pair[2]],
        invalid=[name for name, report in (("A", before), ("B", after)) if not report.valid],
    )


def _compare_steps(first: Step, second: Step) -> Change:
    """1 / p99 of two steps; apart where that of every third of the one lies on one side of those of the other."""
    tails = [[_tail(step.latencies[part::3]) for part in range(3)] for step in (first, second)]
    apart = max(tails[0]) < min(tails[1]) or max(tails[1]) < min(tails[0])
    return Change(f"1 / p99 at {first.rate:g}/s", 1 / _tail(first.latencies), 1 / _tail(second.latencies), apart)


def _tail(latencies: Sequence[float]) -> float:
    return sorted(latencies)[-max(1, len(latencies) // 100)]
