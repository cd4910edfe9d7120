"""The README holds what it says: its code runs, its commands and the files that it links to exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMAND_LINES = [
    shlex.split(line, comments=True)
    for line in README.replace("\\\n", " ").splitlines()
    if re.match(r"\s*kerasxfer(-serving)? \w+ ", line)
]


def call(arguments, **kwargs):
    """Run a program of this environment to its end; its output belongs to the failure."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "COLUMNS": "200",
    }
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == 0, f"{shlex.join(map(str, arguments))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def run_blocks(language, folder):
    """Run all blocks of a language in one process, in the order of the page."""
    code = "\n".join(block for each, block in BLOCKS if each == language)
    return call([sys.executable, "-c", code] if language == "python" else ["bash", "-euc", code], cwd=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the Python blocks have run; and what they printed."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "printed").write_text(run_blocks("python", folder))
    return folder


def test_the_python_blocks_run_and_the_answers_are_right(folder):
    assert "not_found" in (folder / "printed").read_text()
    assert (folder / "model.onnx").is_file()


def test_the_quickstart_has_about_twenty_lines():
    quickstart = next(block for language, block in BLOCKS if language == "python")
    assert len([line for line in quickstart.splitlines() if line.strip()]) <= 22


def test_the_shell_blocks_run_after_them(folder):
    run_blocks("sh", folder)


@pytest.mark.parametrize("line", COMMAND_LINES, ids=shlex.join)
def test_the_options_of_every_command_line_exist(line):
    program, command, *arguments = line
    offered = call([program, command, "--help"])
    for option in arguments:
        if option.startswith("-"):
            assert re.search(rf"(?<![\w-]){re.escape(option)}\b", offered), f"`{program} {command}` has no {option}"


def test_is_short_and_its_links_lead_to_files():
    assert len(README.splitlines()) < 120
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(targets) > 10
    assert [target for target in targets if not (ROOT / target).exists()] == []
