"""A report in words and tables, for terminals and pages."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from kerasxfer_serving.benchmarking.measuring import LATENCIES
from kerasxfer_serving.benchmarking.percentiles import latency
from kerasxfer_serving.benchmarking.report import Report
from kerasxfer_serving.runtime.session import executed_precisions

_BOTTLENECKS = {
    "decode": "decoding the images",
    "model": "the model",
    "pipeline": "the pipeline itself: less than 80 % of the ceiling",
}


def headlines(report: Report) -> dict[str, str]:
    """The figures that one would quote, and what they are about."""
    summary, single = report.summary, report.best("single_stream")
    rows = {
        "model": f"{report.model['name']}, {report.model['precision']}, {_size(report.model['image_size'])}, "
        f"sha256 {report.model['sha256'][:12]}",
        "device": _device(report.device),
        "machine": _machine(report.environment),
        "images": _images(report.data),
        "decode": _rate(summary["decode"]),
        "decode and resize": _rate(summary["decode_resize"]),
        "model alone": _rate(summary["device"]),
        "end to end": _rate(summary["end_to_end"]),
        "best batch size": str(summary["batch_size"] or ""),
        "ceiling": _rate(summary["ceiling"]),
        "share of the ceiling": f"{summary['share_of_ceiling']:.0%}" if summary["share_of_ceiling"] else "",
        "bottleneck": _BOTTLENECKS.get(summary["bottleneck"], ""),
        "single stream": _latency(latency(single.steps)) if single else "",
        "parity with Keras": "; ".join(_parity(*item) for item in report.model.get("parity", {}).items()),
        "accuracy": f"{report.accuracy['top_1']:.2%} of {report.accuracy['pictures']}" if report.accuracy else "",
    }
    return {name: text for name, text in rows.items() if text}


def figures(report: Report) -> list[dict[str, str]]:
    """Every measurement as a table row."""
    return [
        {
            "measurement": measurement.label,
            "images/s": f"{measurement.rate:,.1f}",
            "spread": f"{measurement.spread:.1%}",
            "median ms": f"{median(measurement.steps) * 1000:,.2f}" if measurement.name in LATENCIES else "",
            "steps": f"{len(measurement.steps):,}",
            "padding": f"{measurement.padding:.1%}",
        }
        for measurement in report.measurements
    ]


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f} images/s"


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"


def _device(device: Mapping[str, Any]) -> str:
    nodes = ", ".join(f"{count} nodes on {provider}" for provider, count in device["placement"].items())
    tf32 = "" if device["tf32"] is None else f", TF32 {'on' if device['tf32'] else 'off'}"
    executed = "".join(f", {count} in {precision}" for precision, count in executed_precisions(device).items())
    return f"{device['device']} ({nodes}{executed}{tf32})"


def _machine(environment: Mapping[str, Any]) -> str:
    cpu = environment["cpu"]
    gpus = "".join(f"; {gpu['name']}, driver {gpu['driver_version']}" for gpu in environment["gpus"])
    return f"{cpu['model']}, {cpu['available']} of {cpu['cores']} cores{gpus}"


def _images(data: Mapping[str, Any]) -> str:
    bad = ", ".join(f"{count} {code}" for code, count in data["bad"].items())
    return (
        data["source"]
        if data["drawn"]
        else f"{data['pictures']} of {data['source']}" + (f"; bad: {bad}" if bad else "")
    )


def _parity(name: str, figures: Any) -> str:
    values = figures.items() if isinstance(figures, Mapping) else [("", figures)]
    return f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value}".strip() for key, value in values)


def _latency(figures: Mapping[str, Any]) -> str:
    """Percentiles that are known, and bounds of those that the samples do not give."""
    parts = [f"mean {figures['mean']:.2f} ms"]
    for key, bound in figures["at_most"].items():
        if figures[key] is not None:
            parts.append(f"{key} {figures[key]:.2f} ms")
        elif bound is not None:
            parts.append(f"{key} at most {bound:.2f} ms")
    return f"{', '.join(parts)} ({figures['samples']:,} queries)"
