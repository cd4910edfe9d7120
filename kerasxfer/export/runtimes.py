"""One file in several runtimes and precisions of the CPU: what each answers, and how fast it is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kerasxfer_serving.runtime.fastest import images_per_second
from kerasxfer_serving.runtime.openvino_session import has_bf16
from kerasxfer_serving.runtime.session import Session

from kerasxfer.export.answers import open_file
from kerasxfer.export.graph import OUTPUT
from kerasxfer.export.parity import CUDA_GATES, GATES, Gate, Parity

DEVICES = {"onnxruntime": "cpu", "openvino": "openvino"}
"""The device of each runtime that a file can be checked in."""

_BATCH = 8
_SECONDS = 2.0
_BF16 = Gate(score_loss=0.01)
# Sums in another order; in half precision OpenVINO computes what the file says in float32.
_OPENVINO_GATES = {**GATES, "fp32": CUDA_GATES["fp32"]}


@dataclass(frozen=True)
class RuntimeCheck:
    """A file in one runtime and precision.

    Args:
        runtime: `"onnxruntime"` or `"openvino"`.
        device: Where it ran.
        precision: `"f32"` or `"bf16"`: what the file's float32 products were computed in; `None` on a GPU.
        parity: The comparison with the source.
        failure: What breaks the gate, or `None`.
        images_per_second: Of the model alone, on this machine, as many runs at once as there are cores.
        times_fp32: That rate over the one of the fp32 file in the same runtime; `None` where there is no other file.
    """

    runtime: str
    device: str
    precision: str | None
    parity: Parity
    failure: str | None
    images_per_second: float
    times_fp32: float | None = None

    @property
    def name(self) -> str:
        """Runtime and precision, for people."""
        return f"{self.runtime} {self.precision or self.device}"

    def summary(self) -> dict[str, Any]:
        """The row for a manifest."""
        return {
            "runtime": self.runtime,
            "precision": self.precision,
            "passed": self.failure is None,
            "images_per_second": round(self.images_per_second, 1),
            "times_fp32": self.times_fp32 and round(self.times_fp32, 2),
            **self.parity.summary(),
        }

    def row(self) -> dict[str, str]:
        """The row for a table."""
        accuracy = self.parity.file_accuracy
        return {
            "runtime": self.runtime,
            "precision": self.precision or self.device,
            "mean average precision" if accuracy is None else "accuracy": str(accuracy or self.parity.file_map),
            "same class" if self.parity.same_labels is None else "same labels": f"{self.parity.same_answers:.2%}",
            "largest difference": f"{self.parity.max_difference:.2g}",
            "images/s": f"{self.images_per_second:,.1f}",
            "gate": "passed" if self.failure is None else "not passed",
        } | ({} if self.times_fp32 is None else {"× fp32": f"{self.times_fp32:.2f}"})

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


def open_runtimes(data: bytes, runtimes: Sequence[str], output: str = OUTPUT) -> list[Session]:
    """Sessions in every runtime, and in bfloat16 where runtime and CPU have it.

    Args:
        data: Bytes of the file.
        runtimes: Of `DEVICES`.
        output: Name of the output with the probabilities.

    Raises:
        DeviceError: A runtime is not installed.
    """
    return [
        open_file(data, DEVICES[runtime], output=output, threads=1, cpu_precision=precision)
        for runtime in runtimes
        for precision in (("f32", "bf16") if runtime == "openvino" and has_bf16() else ("f32",))
    ]


def judge(
    sessions: Sequence[Session], parities: Iterable[Parity], precision: str, fp32: Mapping[str, float] | None = None
) -> tuple[RuntimeCheck, ...]:
    """Measure each session, and hold its answers against the gate of its precision.

    Args:
        sessions: From `open_runtimes`, or of another device.
        parities: Of each.
        precision: Of the file.
        fp32: Rates of the fp32 file by runtime, or `None`.
    """
    return tuple(_judge(session, parity, precision, fp32) for session, parity in zip(sessions, parities, strict=True))


def fp32_rates(data: bytes, runtimes: Sequence[str]) -> dict[str, float]:
    """Images a second of the fp32 file, by runtime."""
    exact = [session for session in open_runtimes(data, runtimes) if session.cpu_precision == "f32"]
    return {session.runtime: images_per_second(session, _BATCH, _SECONDS) for session in exact}


def notes(checks: Sequence[RuntimeCheck], precision: str) -> Iterator[str]:
    """What a person should know: gates that were not passed, and files that are slower than what they replace."""
    for check in checks:
        if check.failure:
            yield f"In {check.name} the file does not pass the gate. {check.failure}"
        if check.times_fp32 is not None and check.times_fp32 < 1:
            yield (
                f"In {check.name} the {precision} file is slower than the fp32 one on this machine, by a factor of "
                f"{1 / check.times_fp32:.1f}: serve fp32 there."
            )


def gate_of(session: Session, precision: str) -> Gate:
    """What must hold of a file's answers in a session.

    Args:
        session: The session.
        precision: Of the file.
    """
    if session.cpu_precision == "bf16":
        return _BF16
    gates = {"cpu": GATES, "openvino": _OPENVINO_GATES}.get(session.device, CUDA_GATES)
    return gates[precision]


def _judge(session: Session, parity: Parity, precision: str, fp32: Mapping[str, float] | None) -> RuntimeCheck:
    rate = images_per_second(session, _BATCH, _SECONDS)
    times = rate / fp32[session.runtime] if fp32 else None
    failure = parity.failure(gate_of(session, precision))
    return RuntimeCheck(session.runtime, session.device, session.cpu_precision, parity, failure, rate, times)
