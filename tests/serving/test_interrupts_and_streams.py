"""Signals, closed streams and places that cannot be written: a sentence and a status, never a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

COMMAND = [sys.executable, "-m", "kerasxfer_serving"]
HAS_FULL = Path("/dev/full").exists()


@pytest.fixture
def images(draw_colours, tmp_path):
    return Path(next(iter(draw_colours(tmp_path / "images", 12)))).parent


@pytest.fixture(scope="module")
def endless_model(model, tmp_path_factory):
    """The model with a loop in it that never ends."""
    values = [("number", TensorProto.INT64), ("go", TensorProto.BOOL), ("value", TensorProto.FLOAT)]
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in values[:2]]
    outputs = [helper.make_tensor_value_info("go_out", TensorProto.BOOL, [])]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_out"]), helper.make_node("Identity", ["value"], ["value_out"])],
        "body",
        [*inputs, helper.make_tensor_value_info("value", TensorProto.FLOAT, None)],
        [*outputs, helper.make_tensor_value_info("value_out", TensorProto.FLOAT, None)],
    )
    proto = onnx.load(model)
    proto.graph.initializer.append(helper.make_tensor("always", TensorProto.BOOL, [], [True]))
    (softmax,) = (node for node in proto.graph.node if node.op_type == "Softmax")
    loop = helper.make_node("Loop", ["", "always", softmax.input[0]], ["looped"], "endless", body=body)
    softmax.input[0] = "looped"
    proto.graph.node.insert(len(proto.graph.node) - 1, loop)
    path = tmp_path_factory.mktemp("endless") / "endless.onnx"
    onnx.save(proto, path)
    return path


def run(*arguments, shell=""):
    words = " ".join(f"'{word}'" for word in map(str, (*COMMAND, *arguments)))
    done = subprocess.run(["bash", "-c", f"{words} {shell}"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("notice", [signal.SIGINT, signal.SIGTERM])
def test_an_endless_loop_in_a_model_does_not_keep_a_run_from_ending(endless_model, images, tmp_path, notice):
    out = tmp_path / "out.csv"
    process = subprocess.Popen(
        [*COMMAND, "predict", endless_model, images, "-o", out, "--batch-size", "4"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not out.with_name("out.csv.run.jsonl").exists():
        assert process.poll() is None
    process.send_signal(notice)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130, stderr
    assert "Interrupted" in stderr
    assert "Traceback" not in stderr
    assert not out.exists()


TWICE = """
import time
from kerasxfer_serving.commands.predict import interruptible
with interruptible():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("first", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("notice", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(notice):
    process = subprocess.Popen([sys.executable, "-c", TWICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in ("ready\n", "first\n"):
        assert process.stdout.readline() == line
        process.send_signal(notice)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == -notice


def test_signals_are_handled_as_before_when_a_run_has_ended():
    from kerasxfer_serving.commands.predict import interruptible

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.skipif(not HAS_FULL, reason="no /dev/full")
@pytest.mark.parametrize("command", ["predict", "inspect"])
def test_a_full_disk_behind_standard_output(model, images, command):
    done = run(command, model, *[images] * (command == "predict"), shell="> /dev/full")
    assert done.returncode == 1
    assert "standard output` cannot be written: No space left on device. Send it elsewhere" in done.stderr


@pytest.mark.parametrize("command", ["predict", "inspect"])
def test_a_closed_standard_output(model, images, command):
    done = run(command, model, *[images] * (command == "predict"), shell=">&-")
    assert done.returncode == 1
    assert "Error: Standard output is closed" in done.stderr


def test_a_closed_standard_output_that_is_not_needed(model, images, tmp_path):
    assert run("predict", model, images, "-o", tmp_path / "out.csv", shell=">&- 2>&- <&-").returncode == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 13


def test_a_closed_standard_input(model):
    done = run("predict", model, "-", shell="<&-")
    assert done.returncode == 2
    assert "reads a list from standard input, which is closed" in done.stderr


@pytest.mark.parametrize("out", ["out.csv", "new/rows/"])
def test_a_place_that_cannot_be_written(model, images, out):
    """The kernel's own file system, which takes new files from nobody, root included."""
    done = run("predict", model, images, "-o", f"/proc/{out}")
    assert done.returncode == 1
    assert "cannot be written: " in done.stderr
    assert "name another place" in done.stderr


def test_a_terminal_that_knows_no_unicode(write_model, tmp_path):
    path = write_model(tmp_path / "model.onnx", class_names=("chat", "chien", "lièvre 💥"))
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*COMMAND, "inspect", path], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "li\\xe8vre \\U0001f4a5" in done.stdout
