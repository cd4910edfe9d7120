"""The Python of docs/training.md runs from top to bottom, and its options are those of the command."""

import contextlib
import re
from pathlib import Path

import keras
import pytest
from typer.testing import CliRunner

from kerasxfer.commands import application
from kerasxfer.demo import draw_folder

PAGE = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_runs(tmp_path):
    draw_folder(tmp_path / "photos", per_class=4, size=48, seed=1)
    with contextlib.chdir(tmp_path):
        exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), {})


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="options are read before any backend")
def test_every_option_of_the_page_is_one_of_the_command():
    help_text = CliRunner().invoke(application(), ["train", "--help"], env={"COLUMNS": "200"}).output
    for option in set(re.findall(r"`(--[a-z-]+)", PAGE)):
        assert option in help_text
