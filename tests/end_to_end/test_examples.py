"""Every recipe runs in its quick mode; `KERAS_BACKEND` chooses the backend."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(path.name for path in EXAMPLES.glob("[!_]*.py"))


def test_every_recipe_is_short_and_described():
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(RECIPES) >= 8
    for name in RECIPES:
        assert name in readme
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 80


@pytest.mark.parametrize("name", RECIPES)
def test_quick_mode(name, tmp_path):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(
        [sys.executable, EXAMPLES / name, "--quick", "--out", tmp_path],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "accuracy" in result.stdout or "probability" in result.stdout
