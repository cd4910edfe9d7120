"""What an export tells: progress while it runs, and the result."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.model.model_file import ModelFile

from kerasxfer.export.parity import Parity
from kerasxfer.export.runtimes import RuntimeCheck


@dataclass(frozen=True)
class Exported:
    """A file that passed the gate.

    Args:
        file: The file as read back, with its manifest, hash and graph statistics.
        parity: Comparison with the source on a few images, by precision; `"fp32"` is always there.
        check: Comparison on the labelled images, or `None`.
        runtimes: The file in each runtime and precision that it was checked in.
        seconds: Duration of each step.
        notes: What a person should know.
    """

    file: ModelFile
    parity: dict[str, Parity]
    check: Parity | None
    runtimes: tuple[RuntimeCheck, ...]
    seconds: dict[str, float]
    notes: tuple[str, ...]

    @property
    def manifest(self) -> Manifest:
        """The manifest inside the file."""
        assert self.file.manifest is not None
        return self.file.manifest

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            **self.file.to_dict(),
            "parity": {precision: parity.to_dict() for precision, parity in self.parity.items()},
            "check": self.check and self.check.to_dict(),
            "runtimes": [check.to_dict() for check in self.runtimes],
            "seconds": self.seconds,
            "notes": list(self.notes),
        }


@dataclass
class Steps:
    """Times the steps of an export and, where `verbose`, says on stderr which one runs."""

    verbose: bool
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """One step."""
        self._say(f"{name} …", end="")
        start = time.perf_counter()
        try:
            yield
        except BaseException:
            self._say("")
            raise
        self.seconds[name] = round(time.perf_counter() - start, 3)
        self._say(f" {self.seconds[name]:.1f} s")

    def note(self, text: str) -> None:
        """Keep what a person should know, and say it."""
        self.notes.append(text)
        self._say(f"Note: {text}")

    def _say(self, text: str, end: str = "\n") -> None:
        if self.verbose:
            print(text, end=end, file=sys.stderr, flush=True)
