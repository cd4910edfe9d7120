"""`predict` killed at random moments and resumed ends with the rows of a run that nobody killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import onnx
import pytest
from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

IMAGES = 600


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A classifier of the mean colour with convolutions in front, for something to be killed in."""
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    rng = np.random.default_rng(0)
    constants = {
        "kernel": rng.normal(0, 0.2, (32, 3, 5, 5)).astype(np.float32),
        "kernel_2": rng.normal(0, 0.05, (32, 32, 5, 5)).astype(np.float32),
        "axes": np.array([2, 3]),
        "weights": rng.normal(0, 0.02, (32, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "kernel"], ["conv"], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Conv", ["relu", "kernel_2"], ["conv_2"], pads=[2, 2, 2, 2]),
        helper.make_node("ReduceMean", ["conv_2", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 40, 40, 3])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 5])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    manifest = Manifest(class_names=tuple("abcde"), image_size=(40, 40))
    proto.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(1)
    for index in range(IMAGES):
        path = folder / f"{index % 7}" / f"{index:04d}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (*rng.integers(3, 9, 2), 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((160, 120)).save(path)
        if index % 31 == 0:
            path.write_bytes(path.read_bytes()[: index * 3])
    return folder


def start(model, images, out, *options, **process):
    command = [sys.executable, "-m", "kerasxfer_serving", "predict", str(model), str(images), "-o", str(out)]
    command += ["--part-rows", "40", "--batch-size", "8", "--device", "cpu", "--top-k", "3", "--all-probabilities"]
    # A shell's background job ignores SIGINT, and so would whatever it starts.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([*command, *options], stderr=subprocess.PIPE, preexec_fn=listen, **process)


def committed(out):
    return sum('"part"' in line for line in journal_lines(out))


def journal_lines(out):
    return journal_of(out).read_text().splitlines() if journal_of(out).exists() else []


def journal_of(out):
    return out.with_name(f"{out.name}.run.jsonl") if out.suffix else out / "_run.jsonl"


def finished(out):
    return journal_of(out).exists() and '"summary"' in journal_of(out).read_text()


def content(out):
    if out.is_file():
        return out.read_bytes()
    return b"".join(line for part in sorted(out.glob("part-*")) for line in part.read_bytes().splitlines(True))


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("out.csv", 3),
        pytest.param("parts", 3, marks=pytest.mark.slow),
        pytest.param("out.csv", 10, marks=pytest.mark.slow),
        pytest.param("parts", 10, marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_at_random_moments(model, images, tmp_path, name, kills):
    (tmp_path / "whole").mkdir()
    whole = tmp_path / "whole" / name
    options = () if name == "out.csv" else ("--format", "jsonl")
    begun = time.monotonic()
    process = start(model, images, whole, *options)
    assert b"inputs in" in process.communicate()[1]
    duration = time.monotonic() - begun
    assert len(content(whole).splitlines()) == IMAGES + (name == "out.csv")

    rng = random.Random(name)
    out, killed, stages = tmp_path / name, 0, set()
    while killed < kills:
        # Where it got to its end before it could be killed: once more from the start.
        process = start(model, images, out, "--overwrite" if finished(out) else "--resume", *options)
        time.sleep(rng.uniform(0.3, 0.9) * duration)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        stages.add(committed(out))
    assert max(stages) > 0, "no part was ever committed before a kill: the test tests nothing"
    assert start(model, images, out, "--resume", *options).wait() == 1
    assert content(out) == content(whole)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("notice", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_ends_cleanly_with_what_is_done(model, images, tmp_path, notice):
    """Ctrl-C, or a scheduler's notice, while the run waits for more names on standard input."""
    paths = [os.fsencode(path) + b"\n" for path in sorted(images.rglob("*.jpg"))]
    out = tmp_path / "out.csv"
    process = start(model, "-", out, stdin=subprocess.PIPE)
    process.stdin.write(b"".join(paths[:200]))
    process.stdin.flush()
    while not committed(out) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(notice)
    process.wait()
    stderr = process.stderr.read().decode()
    assert process.returncode == 130, stderr
    assert "continue with `--resume`" in stderr
    assert "Traceback" not in stderr
    done = sum(json.loads(line).get("part", {}).get("rows", 0) for line in journal_lines(out))
    assert 0 < done <= 200
    assert done % 8 == 0

    start(model, "-", out, "--resume", stdin=subprocess.PIPE).communicate(b"".join(paths))
    whole = tmp_path / "whole.csv"
    start(model, "-", whole, stdin=subprocess.PIPE).communicate(b"".join(paths))
    assert out.read_bytes() == whole.read_bytes()
    assert len(content(out).splitlines()) == IMAGES + 1
