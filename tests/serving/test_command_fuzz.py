"""Whatever is given to whatever option: no command ends in a traceback."""

import command_fuzz
import pytest
from kerasxfer_serving.benchmarking import benchmark
from kerasxfer_serving.commands import application


@pytest.fixture(scope="module")
def commands(model, write_model, draw_colours, tmp_path_factory):
    """What makes each command run, by the names of its parameters."""
    folder = tmp_path_factory.mktemp("commands")
    (image,) = draw_colours(folder / "images", 1)
    report = folder / "report.json"
    benchmark(model, device="cpu", duration=0.01, scenarios=["single-stream"]).save(report)
    foreign = write_model(folder / "foreign.onnx", manifest=False, dtype="float", scale=1.0)
    cpu = ["cpu"]
    return {
        "predict": {"model": [str(foreign)], "inputs": [image], "preprocess": ["rescale"], "device": cpu},
        "benchmark": {
            "model": [str(model)],
            "data": [str(folder / "images")],
            "duration": ["0.01"],
            "scenario": ["single-stream"],
            "device": cpu,
        },
        "compare": {"before": [str(report)], "after": [str(report)]},
        "inspect": {"model": [str(model)]},
        "env": {},
        "serve": {"models": ["nope.onnx"], "port": ["0"]},  # it would else run until it is told to stop
    }


CASES = [case for case in command_fuzz.cases(application()) if case.command != ("serve",)]  # which does not end


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_wrong_value_ends_in_a_sentence(case, commands, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command_fuzz.make_files(tmp_path)
    for arguments in case.command_lines(commands[" ".join(case.command)]):
        command_fuzz.require_sentence(command_fuzz.run(application, "kerasxfer-serving", arguments))


def test_what_the_other_tests_begin_with_runs(commands):
    for name in ("predict", "benchmark", "compare", "inspect"):
        (case, *_) = (case for case in CASES if case.command == (name,))
        assert command_fuzz.run(application, "kerasxfer-serving", case.command_line(commands[name])).status == 0
