"""Every recipe runs in its quick mode on every backend.

The recipes of a backend share one process: importing it and compiling for it is most of what a quick run costs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(path.name for path in EXAMPLES.glob("[!_]*.py"))
BACKENDS = ("tensorflow", "jax", "torch")

RUN_ALL = """
import contextlib, importlib.metadata, io, json, runpy, subprocess, sys, time, traceback
from pathlib import Path

run = subprocess.run

def run_ours_in_this_process(command, **options):
    name = Path(command[0]).name
    if name not in ("kerasxfer", "kerasxfer-serving"):
        return run(command, **options)
    sys.argv = [name, *command[1:]]
    (script,) = importlib.metadata.entry_points(group="console_scripts", name=name)
    try:
        script.load()()
    except SystemExit as end:
        assert not end.code, command

examples, out, *names = sys.argv[1:]
sys.path.insert(0, examples)
for name in names:
    folder = Path(out) / Path(name).stem
    sys.argv = [name, "--quick", "--out", str(folder)]
    printed, error, start = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), None, time.perf_counter()
    subprocess.run = run_ours_in_this_process
    with contextlib.redirect_stdout(printed):
        try:
            runpy.run_path(f"{examples}/{name}", run_name="__main__")
        except BaseException:
            error = traceback.format_exc()
    subprocess.run = run
    outcome = {"printed": printed.buffer.getvalue().decode(), "error": error, "seconds": time.perf_counter() - start}
    folder.with_suffix(".json").write_text(json.dumps(outcome))
"""

# What a reader is left with, apart from what is printed.
LEFT = {
    "small_convnet_from_scratch.py": ["scratch.png", "scratch-augmented.png"],
    "bottleneck_features.py": ["bottleneck.png"],
    "feature_extraction_with_augmentation.py": ["augmented-end-to-end.png", "augmented-5.png"],
    "fine_tune_last_block.py": ["fine-tuned.png", "fine-tuned.keras"],
    "inception_v3_custom_classes.py": ["model.keras", "model.onnx", "custom-classes.png"],
    "deploy.py": ["fp32.onnx", "int8.onnx", "predictions.csv", "fp32.json", "int8.json", "triton"],
    "whole_story.py": ["results.jsonl", "whole-story.png"],
}


def test_every_recipe_is_short_and_described():
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(RECIPES) >= 8
    for name in RECIPES:
        assert name in readme
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 80


PUBLISHED = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from _common import arguments
from bottleneck_features import OPTIONS, run
options = arguments("", **OPTIONS)
print(options.optimizer, options.learning_rate, options.batch_size, options.head, options.preprocess, options.dropout)
print(run(options))
"""


def test_as_published_takes_the_tutorials_settings_unless_others_are_said(tmp_path):
    command = [sys.executable, "-c", PUBLISHED, EXAMPLES, "--quick", "--out", tmp_path, "--as-published"]
    output = subprocess.run([*command, "--batch-size", "4"], capture_output=True, text=True, check=True).stdout
    assert "rmsprop 0.001 4 flatten-256 rescale 0.5\n" in output
    assert "accuracy" in output


@pytest.fixture(scope="module", params=BACKENDS)
def finished(request, tmp_path_factory):
    """Run all recipes on a backend; the folder of their outcomes."""
    out = tmp_path_factory.mktemp(request.param)
    environment = {**os.environ, "KERAS_BACKEND": request.param, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", RUN_ALL, EXAMPLES, out, *RECIPES]
    subprocess.run(command, env=environment, cwd=out, stderr=subprocess.DEVNULL, check=True)
    return out


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", RECIPES)
def test_quick_mode(name, finished):
    folder = finished / Path(name).stem
    outcome = json.loads(folder.with_suffix(".json").read_text())
    assert outcome["error"] is None, outcome["error"]
    assert "accuracy" in outcome["printed"]
    assert [path for path in LEFT.get(name, []) if not (folder / path).exists()] == []


def test_the_story_goes_on_where_it_stopped(finished):
    lines = (finished / "whole_story/results.jsonl").read_text().splitlines()
    assert len({(json.loads(line)["seed"], json.loads(line)["name"]) for line in lines}) == len(lines) == 9
