"""The report of a benchmark: figures, what they were made of, and whether they count."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kerasxfer_serving.benchmarking.measuring import Measurement, Rules
from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.files import write_atomically, writing
from kerasxfer_serving.notebook import html_table
from kerasxfer_serving.runtime.session import ON_CPU

FORMAT_VERSION = 1
_BUSY = 0.1
_OFF_DEVICE = 0.1
_PIPELINE = 0.8


class ReportError(KerasxferError):
    """A file that is no benchmark report."""


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        model: Name, hash, precision and the like.
        preprocessing: Policy, hashes of the golden images, and which of them differ from the model's.
        data: What was read: number, hash, bad files by code.
        device: Proof of the device: providers, options, nodes by provider, TF32, threads.
        settings: What was asked for, with the `Rules`.
        sessions: Seconds of making a session and of its first run, by batch size.
        measurements: The figures with their raw samples.
        accuracy: Share of right answers, or `None` where the truth is not known.
        cores_of_others: Cores that other processes kept busy meanwhile, or `None`.
        environment: `kerasxfer_serving.diagnostics.env.environment()`.
        created: Date and time, ISO 8601.
    """

    model: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    data: Mapping[str, Any]
    device: Mapping[str, Any]
    settings: Mapping[str, Any]
    sessions: Sequence[Mapping[str, Any]]
    measurements: Sequence[Measurement]
    accuracy: Mapping[str, Any] | None
    cores_of_others: float | None
    environment: Mapping[str, Any]
    created: str

    @property
    def reasons(self) -> list[str]:
        """Why the figures are not to be quoted; empty for a valid report."""
        found = self._broken_rules()
        if self.cores_of_others is not None and self.cores_of_others > _BUSY * self.cores:
            found.append(f"other processes kept {self.cores_of_others:.2f} of {self.cores} cores busy")
        if changed := self.preprocessing["changed"]:
            found.append(f"this machine decodes golden images unlike the one that trained: {', '.join(changed)}")
        if (share := self._share_off_device()) > _OFF_DEVICE:
            found.append(f"{share:.0%} of the model's nodes ran on the CPU, not on {self.device['device']}")
        if sum(self.data["bad"].values()) == self.data["seen"]:
            found.append("not one image could be read")
        return found

    @property
    def valid(self) -> bool:
        """Whether the figures count."""
        return not self.reasons

    @property
    def cores(self) -> int:
        """Cores that the benchmark could use."""
        return int(self.environment["cpu"]["available"])

    def _repr_html_(self) -> str:
        rows = ({"measurement": m.label, "images/s": m.rate, "spread": f"{m.spread:.1%}"} for m in self.measurements)
        verdict = "VALID" if self.valid else f"INVALID: {'; '.join(self.reasons)}"
        share = self.summary["share_of_ceiling"]
        ceiling = f", {share:.0%} of the ceiling" if share else ""
        caption = f"{self.model['name']} on {self.device['device']}{ceiling}. {verdict}"
        return html_table(rows, caption=caption, most=len(self.measurements))

    def of(self, name: str) -> list[Measurement]:
        """Measurements by name, in the order of the batch sizes."""
        return sorted((m for m in self.measurements if m.name == name), key=lambda m: m.batch_size or 0)

    def best(self, name: str) -> Measurement | None:
        """The fastest measurement of a name."""
        return max(self.of(name), key=lambda m: m.rate, default=None)

    @property
    def model_alone(self) -> float | None:
        """Images a second of the model on pixels that lie ready, run by run or many at once: whichever is faster."""
        return max((m.rate for m in self.of("device") + self.of("latency")), default=None)

    @property
    def ceiling(self) -> float | None:
        """Images a second that no pipeline can beat on this machine.

        A GPU computes while the CPU decodes: the slower of the two. On a CPU both share the cores: their times add up.
        """
        decode, model = self.best("decode_resize"), self.model_alone
        if not decode or not decode.rate or not model:
            return None
        if self.device["device"] in ON_CPU:
            return 1 / (1 / decode.rate + 1 / model)
        return min(decode.rate, model)

    @property
    def summary(self) -> dict[str, Any]:
        """The headline figures."""
        best = {name: self.best(name) for name in ("decode", "decode_resize", "end_to_end")}
        single, ceiling, whole = self.best("single_stream"), self.ceiling, best["end_to_end"]
        return {
            **{name: measurement and measurement.rate for name, measurement in best.items()},
            "device": self.model_alone,
            "batch_size": whole and whole.batch_size,
            "ceiling": ceiling,
            "share_of_ceiling": whole.rate / ceiling if whole and ceiling else None,
            "bottleneck": self._bottleneck(),
            "single_stream_ms": single.to_dict()["latency_ms"] if single else None,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            "format": "kerasxfer-benchmark",
            "format_version": FORMAT_VERSION,
            "verdict": "VALID" if self.valid else "INVALID",
            "reasons": self.reasons,
            "summary": self.summary,
            **data,
            "measurements": [measurement.to_dict() for measurement in self.measurements],
        }

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, whole or not at all."""
        with writing(path):
            write_atomically(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False, default=str) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> "Report":
        """Read what `save` wrote.

        Raises:
            ReportError: The file is no report, or one of a later version.
        """
        try:
            data = json.loads(_content(Path(path)))
            if data["format"] != "kerasxfer-benchmark" or data["format_version"] != FORMAT_VERSION:
                raise ReportError(f"`{path}` is a report of another version. Received: {data['format_version']}")
            values = {item.name: data[item.name] for item in fields(cls)}
            values["measurements"] = [Measurement.from_dict(item) for item in data["measurements"]]
        except OSError as error:
            raise ReportError(f"`{path}` cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ReportError(f"`{path}` is not a report of `kerasxfer-serving benchmark`: {error!r}") from error
        return cls(**values)

    def _broken_rules(self) -> list[str]:
        """One line for every rule that figures break, with the figures and their values."""
        rules = Rules(**self.settings["rules"])
        breakers: dict[str, list[str]] = {}
        for measurement in self.measurements:
            for rule, value in measurement.failures(rules).items():
                breakers.setdefault(rule, []).append(f"{measurement.label} ({value})")
        return [f"{rule}: {'; '.join(labels)}" for rule, labels in breakers.items()]

    def _bottleneck(self) -> str | None:
        decode, model, whole = self.best("decode_resize"), self.model_alone, self.best("end_to_end")
        if decode is None or model is None or self.ceiling is None:
            return None
        if whole and whole.rate < _PIPELINE * self.ceiling:
            return "pipeline"
        return "decode" if decode.rate < model else "model"

    def _share_off_device(self) -> float:
        if self.device["device"] in ON_CPU:
            return 0.0
        placement: Mapping[str, int] = self.device["placement"]
        return placement.get("CPUExecutionProvider", 0) / max(1, sum(placement.values()))


def _content(path: Path) -> bytes:
    """A report's bytes; a device or a pipe may have no end."""
    if path.exists() and not path.is_file():
        raise OSError("it is not a file")
    return path.read_bytes()
