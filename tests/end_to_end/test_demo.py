"""`kerasxfer demo` on fewer images than it draws for a person."""

import json
import os
import subprocess
import sys

import pytest
from kerasxfer_serving import Manifest, Predictor

from kerasxfer.demo.images import TASK_CLASSES
from kerasxfer.runs.histories import read_history


def demo(*arguments, **environment):
    """Run the command; its exit status, stdout and stderr."""
    command = [sys.executable, "-m", "kerasxfer", "demo", *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a demo on 24 images of each class, and what the command printed."""
    out = tmp_path_factory.mktemp("demo") / "run"
    done = demo("--out", out, "--per-class", 24, "--seed", 3, "--format", "json")
    assert done.returncode == 0, done.stderr
    return out, done


def test_transfer_beats_the_same_network_from_scratch(finished):
    result = json.loads(finished[1].stdout)
    assert result["accuracy"] >= 0.7
    assert result["accuracy"] >= result["accuracy_from_scratch"] + 0.2
    assert result["images_per_second"] > 0


def test_the_output_is_short_and_says_what_the_backbone_is(finished):
    lines = finished[1].stderr.splitlines()
    assert any("not on ImageNet" in line for line in lines)
    assert [line[:6] for line in lines if "✓" in line] == [
        "✓ Draw",
        "✓ Tran",
        "✓ From",
        "✓ Expo",
        "✓ Pred",
        "✓ Benc",
        "✓ Put ",
    ]


def test_it_leaves_something_to_look_at(finished):
    out = finished[0]
    for name in ("predictions.png", "transfer/curves.png", "scratch/curves.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert "transfer" in (out / "report.html").read_text(encoding="utf-8")
    assert "What transfer bought" in (out / "summary.md").read_text(encoding="utf-8")


def test_one_fit_went_through_both_stages(finished):
    history = read_history(finished[0] / "transfer")
    assert history["stage"] == [1] * 10 + [2] * 15
    assert history["trainable_params"][0] < history["trainable_params"][-1]
    assert any((finished[0] / "cache").rglob("shard-*.npy"))


def test_the_exported_model_answers_alone(finished):
    model = finished[0] / "transfer" / "model.onnx"
    assert Manifest.read(model).class_names == TASK_CLASSES
    images = sorted((finished[0] / "pictures" / "held-out" / "key").iterdir())
    with Predictor(model, device="cpu") as predictor:
        labels = predictor.predict(images).labels
    assert labels.count("key") > len(labels) / 2


def test_a_second_demo_needs_leave_to_discard_the_first(finished):
    done = demo("--out", finished[0])
    assert done.returncode == 1
    assert "`--overwrite`" in done.stderr
    assert (finished[0] / "summary.md").is_file()


def test_a_folder_that_is_no_demo_is_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    done = demo("--out", tmp_path, "--overwrite")
    assert done.returncode == 1
    assert "other files" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_backbone_whose_weights_are_out_of_reach_is_an_error_with_the_ways_out(tmp_path):
    nowhere = "http://127.0.0.1:9"
    done = demo(
        "--out",
        tmp_path / "run",
        "--backbone",
        "VGG16",
        KERAS_HOME=str(tmp_path),
        https_proxy=nowhere,
        HTTPS_PROXY=nowhere,
    )
    assert done.returncode == 1
    assert "Three ways out" in done.stderr
    assert "Traceback" not in done.stderr
