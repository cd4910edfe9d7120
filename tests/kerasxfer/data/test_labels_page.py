"""`docs/labels.md` runs from top to bottom."""

import re
import shlex
from pathlib import Path

import keras
import pytest
from typer.testing import CliRunner

from kerasxfer.commands import application
from kerasxfer.data.tables.columns import LABEL_COLUMNS, NOTHING_SAID, find_columns
from kerasxfer.data.tables.source import open_table

PAGE = (Path(__file__).parents[3] / "docs" / "labels.md").read_text("utf-8")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the page is read before any backend")
def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    output = ""
    for language, block in re.findall(r"```(python|sh)\n(.*?)```", PAGE, re.DOTALL):
        if language == "python":
            exec(compile(block, "labels.md", "exec"), names)
            continue
        for line in block.strip().splitlines():
            result = CliRunner().invoke(application(), shlex.split(line)[1:])
            assert result.exit_code == 0, f"{line}\n{result.output}{result.exception}"
            output += result.output

    assert re.search(r"For validation: (.*)", PAGE)[1] in output
    assert len(names["tagged"].class_names) == 6
    assert sorted(path.name for path in (tmp_path / "divided").iterdir()) == ["test.csv", "train.csv", "validation.csv"]


def test_the_names_of_columns_are_those_that_are_found():
    row = next(line for line in PAGE.splitlines() if line.startswith("| labels "))
    assert set(re.findall(r"`(\w+)`", row.split("|")[-2])) <= set(LABEL_COLUMNS)
    row = next(line for line in PAGE.splitlines() if line.startswith("| images "))
    for name in re.findall(r"`(\w+)`", row.split("|")[-2]):
        source = open_table({name: ["a"], "label": ["b"]}, ())
        assert find_columns(source, NOTHING_SAID).image == name
