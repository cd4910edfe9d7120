"""A report as something to look at: throughput and latency over the batch size, as PNG or as one HTML page."""

import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from kerasxfer_serving.benchmarking.measuring import Measurement
from kerasxfer_serving.benchmarking.report import Report
from kerasxfer_serving.benchmarking.tables import figures, headlines
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.files import atomic_file, write_atomically, writing

# Okabe and Ito's colours, told apart by everybody.
_DEVICE, _WHOLE, _DECODE, _CEILING = "#0072B2", "#D55E00", "#009E73", "#555555"


def save_png(report: Report, path: str | Path) -> None:
    """Plot a report.

    Raises:
        UsageError: Matplotlib is not installed.
    """
    with writing(path), atomic_file(path) as file:
        _figure(report).savefig(file, dpi=150, format="png")


def save_html(report: Report, path: str | Path) -> None:
    """Write a report as one page with nothing outside it: verdict, plot, tables.

    Raises:
        UsageError: Matplotlib is not installed.
    """
    drawing = io.StringIO()
    _figure(report).savefig(drawing, format="svg")
    svg = drawing.getvalue()[drawing.getvalue().index("<svg") :]
    verdict = "VALID" if report.valid else "INVALID"
    title = html.escape(f"{report.model['name']} on {report.device['device']}")
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in report.reasons)
    page = _PAGE.format(
        title=title,
        verdict=verdict,
        reasons=f"<ul>{reasons}</ul>" if reasons else "",
        headlines=_table([{"": name, " ": value} for name, value in headlines(report).items()]),
        svg=svg,
        figures=_table(figures(report)),
    )
    with writing(path):
        write_atomically(path, page)


def _table(rows: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    lines = ("".join(f"<td>{html.escape(str(value))}</td>" for value in row.values()) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _figure(report: Report) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("A plot needs Matplotlib: `pip install 'kerasxfer-serving[plot]'`") from error
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    rates, latencies = figure.subplots(1, 2)
    _draw_rates(rates, report)
    _draw_latencies(latencies, report)
    verdict = "" if report.valid else "   INVALID"
    figure.suptitle(
        f"{report.model['name']} on {report.device['device']}, {report.environment['cpu']['model']}{verdict}"
    )
    return figure


def _draw_rates(axes: Any, report: Report) -> None:
    if decode := report.best("decode_resize"):
        axes.axhline(decode.rate, color=_DECODE, linestyle="--", label=f"decode and resize alone: {decode.rate:,.0f}")
    if ceiling := report.ceiling:
        axes.axhline(ceiling, color=_CEILING, linestyle=":", label=f"ceiling: {ceiling:,.0f}")
    for name, colour, label in (("device", _DEVICE, "model alone"), ("end_to_end", _WHOLE, "end to end")):
        repeats = [sorted(repeat.rate for repeat in measurement.repeats) for measurement in report.of(name)]
        _draw(axes, report.of(name), repeats, color=colour, marker="o", label=label)
    rates = [repeat.rate for m in report.of("device") + report.of("end_to_end") for repeat in m.repeats]
    axes.set_ylim(
        0, max([*rates, ceiling or 0.0]) * 1.2 or None
    )  # decoding may be far above: its legend tells the rate
    _finish(axes, report, "Throughput", "images a second, least to most of the repeats")


def _draw_latencies(axes: Any, report: Report) -> None:
    for name, colour, marker, label in (
        ("latency", _DEVICE, "o", "one batch, model alone"),
        ("single_stream", _WHOLE, "s", "single stream, with decoding"),
    ):
        inner = [_inner(step * 1000 for step in measurement.steps) for measurement in report.of(name)]
        _draw(axes, report.of(name), inner, color=colour, marker=marker, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    _finish(axes, report, "Latency", "milliseconds, median and the middle 80 %")


def _inner(values: Iterable[float]) -> list[float]:
    """The middle 80 %, sorted: one hiccup of the system would hide the rest."""
    ordered = sorted(values)
    cut = len(ordered) // 10
    return ordered[cut : len(ordered) - cut]


def _draw(axes: Any, found: Sequence[Measurement], values: Sequence[Sequence[float]], **style: Any) -> None:
    """Medians with bars from the least to the most of sorted values."""
    if not found:
        return
    middle = [median(ordered) for ordered in values]
    below = [centre - ordered[0] for centre, ordered in zip(middle, values, strict=True)]
    above = [ordered[-1] - centre for centre, ordered in zip(middle, values, strict=True)]
    axes.errorbar([measurement.batch_size for measurement in found], middle, yerr=[below, above], capsize=3, **style)


def _finish(axes: Any, report: Report, title: str, unit: str) -> None:
    batches = sorted({m.batch_size for m in report.measurements if m.batch_size is not None}) or [1]
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.tick_params(which="minor", bottom=False)
    axes.set_xlim(batches[0] / 1.3, batches[-1] * 1.3)
    axes.set(title=title, xlabel="batch size", ylabel=unit)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize="small")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }}
td, th {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }}
td:first-child, th:first-child {{ text-align: left; }}
.VALID {{ color: #00664b; }} .INVALID {{ color: #a33c00; }}
svg {{ width: 100%; height: auto; }}
</style></head><body>
<h1>{title}</h1>
<p class="{verdict}"><strong>{verdict}</strong></p>{reasons}
{headlines}
{svg}
{figures}
</body></html>
"""
