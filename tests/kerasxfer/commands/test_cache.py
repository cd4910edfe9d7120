"""`kerasxfer cache`: exit codes, and what goes to stdout."""

import json
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from kerasxfer.commands import main

SCHEDULE = """
stages:
  - epochs: 1
  - unfreeze: block2
"""


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command in this process; return exit status, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["kerasxfer", "cache", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            main()
        return exit.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def model_and_data(tmp_path):
    keras.utils.set_random_seed(0)
    x = images = keras.Input((12, 12, 3))
    for n in (1, 2):
        x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name=f"block{n}_conv")(x)
        x = keras.layers.MaxPooling2D(name=f"block{n}_pool")(x)
    model = keras.Model(images, keras.layers.Dense(2, name="dense")(keras.layers.Flatten(name="flatten")(x)))
    for layer in model.layers[:-1]:
        layer.trainable = False
    model.save(tmp_path / "model.keras")
    generator = np.random.default_rng(0)
    for k in range(6):
        folder = tmp_path / "data" / "ab"[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (12, 12, 3), dtype="uint8")).save(folder / f"{k}.png")
    (tmp_path / "schedule.yaml").write_text(SCHEDULE)
    return tmp_path / "model.keras", tmp_path / "data"


def test_the_life_of_a_cache(run, model_and_data, tmp_path):
    cache, schedule = tmp_path / "cache", tmp_path / "schedule.yaml"
    code, out, _ = run("plan", cache, *model_and_data, "--schedule", schedule, "--format", "json")
    plan = json.loads(out)
    assert code == 0
    assert [stage["boundary"] for stage in plan["stages"]] == ["flatten", "block1_pool"]
    assert not cache.exists()

    assert run("build", cache, *model_and_data, "--schedule", schedule, "--shard", "0/1")[0] == 0
    code, out, _ = run("ls", cache, "--format", "json")
    assert sorted((row["boundary"], row["rows"]) for row in json.loads(out)) == [("block1_pool", 6), ("flatten", 6)]

    assert run("verify", cache)[:2] == (0, "")
    shard = next(cache.rglob("*.npy"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    code, out, err = run("verify", cache, "--format", "json")
    assert code == 1
    assert json.loads(out)[0]["problem"] == "does not match its hash"
    assert "The next build computes them again" in err

    assert run("gc", cache, "--budget", "0B", "--format", "json")[0] == 0
    assert json.loads(run("ls", cache, "--format", "json")[1]) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ray_builds_what_the_local_engine_builds(run, model_and_data, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    local, remote, schedule = tmp_path / "local", tmp_path / "remote", ("--schedule", tmp_path / "schedule.yaml")
    assert run("build", local, *model_and_data, *schedule)[0] == 0
    code, out, _ = run("build", remote, *model_and_data, *schedule, "--engine", "ray", "--format", "json")
    assert (code, json.loads(out)["pictures"]) == (0, 6)
    files = [{p.relative_to(c): p.read_bytes() for p in c.rglob("shard-*")} for c in (local, remote)]
    assert files[0] == files[1]
    assert len(files[0]) == 4
    assert run("verify", remote)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "cache", "model", "data", "--num-workers", "2"), "`--num-workers` needs `--engine ray`"),
        (("build", "cache", "model", "data", "--engine", "ray", "--shard", "0/2"), "`--shard` is for builds without"),
        (("ls", "nowhere"), "`CACHE` must be a folder"),
        (("plan", "cache", "nowhere.keras", "data"), "`MODEL` must be a `.keras` file"),
        (("build", "cache", "model", "data", "--shard", "3/2"), "`--shard` must be i/n"),
        (("build", "cache", "model", "data", "--budget", "much"), "A size is a number and one of"),
        (("build", "cache", "model", "data", "--dtype", "int8"), "`dtype` must be None or a floating-point"),
    ],
)
def test_usage_errors_exit_with_2(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_lambda_s_preprocess_input_is_named_by_the_application(run, model_and_data, tmp_path):
    images = keras.Input((12, 12, 3))
    x = keras.layers.Lambda(keras.applications.vgg16.preprocess_input, name="normalise")(images)
    x = keras.layers.GlobalMaxPooling2D(name="pool")(keras.layers.Conv2D(4, 3, trainable=False, name="conv")(x))
    keras.Model(images, keras.layers.Dense(2, name="dense")(x)).save(tmp_path / "lambda.keras")
    command = "build", tmp_path / "cache", tmp_path / "lambda.keras", model_and_data[1]
    code, _, err = run(*command)
    assert code == 1
    assert "`--preprocess-input`" in err
    assert run(*command, "--preprocess-input", "vgg16")[0] == 0
    assert json.loads(run("ls", tmp_path / "cache", "--format", "json")[1])[0]["rows"] == 6
