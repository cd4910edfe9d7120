"""The commands `benchmark`, `compare` and `env`, as a user starts them."""

import json
import subprocess
import sys

import pytest


def run(*arguments):
    command = [sys.executable, "-m", "kerasxfer_serving", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def bench(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    options = ["--device", "cpu", "--batch-sizes", "1,2", "--duration", "0.03", "--picture-size", "20x30"]
    return run("benchmark", model, *options, "-o", out), out


def test_benchmark_prints_figures_on_stdout_and_progress_on_stderr(bench):
    done, out = bench
    assert done.returncode == 0, done.stderr
    assert "end_to_end, batch 2" in done.stdout
    assert "INVALID" in done.stdout
    assert "64 drawn, 30×20" in done.stdout
    assert "decode: " in done.stderr
    assert json.loads(out.read_text())["verdict"] == "INVALID"


def test_benchmark_as_json(model):
    options = ["--scenario", "single-stream", "--duration", "0.03", "--picture-size", "20", "--format", "json"]
    done = run("benchmark", model, *options)
    assert json.loads(done.stdout)["format"] == "kerasxfer-benchmark"


def test_model_from_elsewhere(write_model, tmp_path):
    model = write_model(tmp_path / "foreign.onnx", dtype="float", layout="nchw", manifest=False)
    options = ["--scenario", "single-stream", "--duration", "0.03", "--picture-size", "20"]
    done = run("benchmark", model, *options)
    assert done.returncode == 1
    assert "--preprocess" in done.stderr
    done = run("benchmark", model, *options, "--preprocess", "imagenet", "--layout", "nchw", "--format", "json")
    assert json.loads(done.stdout)["model"]["classes"] == 3


@pytest.mark.parametrize(
    "options",
    [
        ["--batch-sizes", "1,x"],
        ["--batch-sizes", "0"],
        ["--picture-size", "1x2x3"],
        ["--scenario", "nonsense"],
        ["--scenario", "server", "--png", "x.png"],
        ["--url", "http://127.0.0.1:1"],
        ["--device", "tpu"],
    ],
)
def test_usage_errors_exit_with_2(model, options):
    done = run("benchmark", model, *options)
    assert done.returncode == 2
    assert options[0] in done.stderr or "`scenarios`" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_model_exits_with_1(tmp_path):
    done = run("benchmark", tmp_path / "no.onnx")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_compare(bench):
    _, out = bench
    done = run("compare", out, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("within the spread") == 9
    assert "A is INVALID" in done.stderr
    data = json.loads(run("compare", out, out, "--format", "json").stdout)
    assert {change["ratio"] for change in data["changes"]} == {1.0}
    assert data["differences"] == []


def test_compare_with_what_is_no_report(bench, model):
    done = run("compare", bench[1], model)
    assert done.returncode == 1
    assert "is not a report of" in done.stderr


def test_env_as_text_and_as_json():
    done = run("env")
    assert done.returncode == 0, done.stderr
    assert "CPUExecutionProvider       starts" in done.stdout
    data = json.loads(run("env", "--format", "json").stdout)
    assert data["providers"]["CPUExecutionProvider"]["starts"]
