"""`benchmark --url` and `benchmark MODEL --scenario server`."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kerasxfer_serving.commands import choices, options
from kerasxfer_serving.commands.output import note, print_json, print_line, print_table

if TYPE_CHECKING:
    from kerasxfer_serving.benchmarking.server_report import ServerReport


@dataclass(frozen=True)
class ServerBenchmarkOptions:
    """The options of a server's benchmark, as they were given."""

    url: str | None
    model: Path | None
    data: Path | None
    target: float
    rates: str | None
    duration: float
    limit: int
    size: str
    token: str | None
    device: str


def measure_server(given: ServerBenchmarkOptions, out: Path | None, format: choices.ResultFormat) -> None:
    """Measure the server, or start one for the model and measure that; print or save the report."""
    from kerasxfer_serving.benchmarking.online import benchmark_server, serving

    rates = options.read_integers("--rates", given.rates, least=1) if given.rates else ()
    size = options.read_size("--picture-size", given.size)
    with nullcontext(given.url) if given.url else serving(given.model or "", given.device) as url:
        report = benchmark_server(
            url,
            given.data,
            target=given.target,
            rates=rates,
            duration=given.duration,
            limit=given.limit,
            image_size=size,
            token=given.token,
            progress=note,
        )
    if out:
        report.save(out)
    if format is choices.ResultFormat.json:
        print_json(report.to_dict())
    else:
        _print_server(report)


def _print_server(report: "ServerReport") -> None:
    from kerasxfer_serving.benchmarking.percentiles import latency

    rows = []
    for step in report.steps:
        figures = latency(step.latencies)["at_most"]
        bounds = {f"{name} ms at most": "" if value is None else f"{value:,.1f}" for name, value in figures.items()}
        row = {"requests/s": f"{step.rate:,.1f}", "queries": len(step.latencies), **bounds, "failed": step.failed}
        rows.append(row)
    print_table(rows)
    print_line(f"highest rate with p99 ≤ {report.target:g} ms: {report.highest_rate or 'none'}")
    print_line("VALID" if report.valid else "INVALID")
    for reason in report.reasons:
        print_line(f"  {reason}")
