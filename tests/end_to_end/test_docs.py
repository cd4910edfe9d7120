"""The pages of docs/ hold what they say: their code runs, and their commands have the options they name.

All pages share one process, as the recipes do: importing a backend is most of what a page costs. A comment that begins
with `before` holds what a page takes for granted. Blocks marked `bash` or `text` need what a test has not.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
# Other pages have tests of their own; the server's are tested where the server is.
PAGES = [
    "index.md",
    "audit.md",
    "caching.md",
    "exporting.md",
    *sorted(f"how-to/{path.name}" for path in DOCS.glob("how-to/*.md")),
]
BLOCK = re.compile(r"^<!-- (before)\n(.*?)^-->|^```(python|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINE = re.compile(r"^(?:    )?(kerasxfer(?:-serving)? [a-z].*)$", re.MULTILINE)

RUN_ALL = """
import importlib.metadata, json, os, shlex, sys, traceback
from pathlib import Path

def call(line):
    sys.argv = shlex.split(line, comments=True)
    (script,) = importlib.metadata.entry_points(group="console_scripts", name=sys.argv[0])
    try:
        script.load()()
    except SystemExit as end:
        assert not end.code, line

out, pages = Path(sys.argv[1]), json.loads(sys.argv[2])
errors = {}
for page, blocks in pages.items():
    folder = out / page.replace("/", "-")
    folder.mkdir()
    os.chdir(folder)
    names = {"__name__": "__main__"}
    try:
        for kind, code in blocks:
            if kind == "sh":
                for line in filter(str.strip, code.replace("\\\\\\n", " ").splitlines()):
                    call(line)
            else:
                exec(compile(code, page, "exec"), names)
    except BaseException:
        errors[page] = traceback.format_exc()
(out / "errors.json").write_text(json.dumps(errors))
"""


def blocks(page):
    """Kind and code of a page's blocks that run, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [(match[1] or match[3], match[2] or match[4]) for match in BLOCK.finditer(text)]


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """What went wrong, by page."""
    out = tmp_path_factory.mktemp("pages")
    environment = {**os.environ, "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "tensorflow")}
    pages = json.dumps({page: blocks(page) for page in PAGES})
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, out, pages], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "errors.json").read_text())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page, errors):
    assert page not in errors, errors[page]


def command_lines():
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        fenced = "\n".join(re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        indented = "\n".join(re.findall(r"^    .*$", text, re.MULTILINE))
        for line in LINE.findall(f"{fenced}\n{indented}"):
            yield pytest.param(line, id=f"{path.relative_to(DOCS)}: {line}")


@pytest.mark.parametrize("line", list(command_lines()))
def test_the_options_of_every_command_line_exist(line):
    import typer
    from kerasxfer_serving.commands import application as of_serving

    from kerasxfer.commands import application as of_kerasxfer

    program, *words = shlex.split(line, comments=True)
    command = typer.main.get_command(of_serving() if program == "kerasxfer-serving" else of_kerasxfer())
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    offered = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    assert [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in offered] == []
