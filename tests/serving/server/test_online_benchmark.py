import asyncio
import json

import pytest
from kerasxfer_serving.benchmarking.load import Target, open_loop
from kerasxfer_serving.benchmarking.online import benchmark_server
from kerasxfer_serving.benchmarking.reading import compare_files, read_report
from kerasxfer_serving.benchmarking.report import ReportError
from kerasxfer_serving.benchmarking.server_report import ServerReport, Step, compare_servers
from kerasxfer_serving.errors import KerasxferError, UsageError


@pytest.fixture(scope="module")
def report(server, draw_colours, tmp_path_factory):
    folder = tmp_path_factory.mktemp("load") / "images"
    draw_colours(folder, 4)
    return benchmark_server(server.url, folder, model="net", target=60_000, rates=(300, 400), duration=0.1)


def test_rates_rise_and_every_request_is_counted(report):
    assert [step.rate for step in report.steps] == [300, 400]
    assert all(len(step.latencies) == 500 and step.statuses == {"200": 500} for step in report.steps)
    assert report.model["name"] == "net"
    assert report.highest_rate == 400
    assert any("can do more" in reason for reason in report.reasons)


def test_report_is_the_same_after_reading(report, tmp_path):
    report.save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["verdict"] == "INVALID"
    read = read_report(tmp_path / "a.json")
    assert [step.latencies for step in read.steps] == [step.latencies for step in report.steps]
    comparison = compare_files(tmp_path / "a.json", tmp_path / "a.json")
    assert {change.ratio for change in comparison.changes} == {1.0}
    assert comparison.differences == []


def test_latency_counts_from_when_a_request_was_due(server, images):
    """A server that stands still delays all that were due meanwhile, and the client goes on sending."""

    async def load():
        target = Target(f"{server.url}/predict/net")
        sent = await open_loop(target, images, rate=2000, count=200)
        target.close()
        return sent

    sent = asyncio.run(load())
    assert {request.status for request in sent} == {200}
    assert all(request.latency >= request.lateness for request in sent)


def _step(rate, milliseconds, count=500, statuses=None, lateness=0.0):
    return Step(rate, (milliseconds / 1000,) * count, statuses or {"200": count}, lateness)


def _report(*steps):
    return ServerReport("http://x", {"name": "m"}, {}, 100.0, list(steps), {}, "now")


def test_highest_rate_is_the_last_before_the_first_that_fails():
    held = _report(_step(10, 20), _step(20, 90), _step(30, 120), _step(40, 50))
    assert held.highest_rate == 20
    assert _report(_step(10, 20), _step(20, 200)).valid
    assert _report(_step(10, 20), _step(20, 30, statuses={"200": 499, "503": 1})).highest_rate == 10


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([_step(10, 200)], "lowest rate"),
        ([_step(10, 20)], "can do more"),
        ([_step(10, 20, count=100), _step(20, 200)], "too few"),
        ([_step(10, 20, lateness=0.5), _step(20, 200)], "behind its own schedule"),
    ],
)
def test_invalid_reports_say_why(steps, reason):
    assert any(reason in text for text in _report(*steps).reasons)


def test_comparison_tells_faster_from_slower():
    comparison = compare_servers(_report(_step(10, 40), _step(20, 200)), _report(_step(10, 20), _step(20, 200)))
    verdicts = {change.label: change.verdict for change in comparison.changes}
    assert verdicts["1 / p99 at 10/s"] == "faster"


def test_errors_are_sentences(server, tmp_path):
    with pytest.raises(UsageError, match="--url"):
        Target("ftp://x")
    with pytest.raises(KerasxferError, match="does not answer"):
        benchmark_server(f"{server.url}/nope")
    (tmp_path / "x.json").write_text('{"format": "kerasxfer-server-benchmark", "format_version": 9}')
    with pytest.raises(ReportError):
        read_report(tmp_path / "x.json")
