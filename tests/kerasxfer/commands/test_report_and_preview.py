import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from kerasxfer_serving.errors import KerasxferError, UsageError
from PIL import Image
from typer.testing import CliRunner

from kerasxfer.commands.preview import preview
from kerasxfer.commands.report import report


def invoke(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def run(tmp_path):
    spec = importlib.util.spec_from_file_location("run_folders", Path(__file__).parents[2] / "run_folders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_run(tmp_path / "run", ["a-red", "b-green"], per_class=10)


def test_report_writes_the_page_and_prints_where(run, tmp_path):
    result = invoke(report, run, "-o", tmp_path / "page.html")
    assert result.stdout == f"{tmp_path / 'page.html'}\n"
    assert "accuracy 0.95" in result.stderr
    assert (tmp_path / "page.html").stat().st_size < 15e6


def test_report_prints_figures_as_json(run, tmp_path):
    result = invoke(report, run, run, "-o", tmp_path / "page.html", "--format", "json")
    data = json.loads(result.stdout)
    assert data["report"] == str(tmp_path / "page.html")
    assert [row["pictures"] for row in data["runs"]] == [20, 20]
    assert data["runs"][0]["low"] < data["runs"][0]["accuracy"] < data["runs"][0]["high"]


def test_preview_draws_a_sheet(run, tmp_path):
    data = tmp_path / "run-data"
    result = invoke(
        preview, data, "--pictures", 2, "--copies", 3, "--image-size", "32x48", "-o", tmp_path / "new" / "x.png"
    )
    assert result.stdout == f"{tmp_path / 'new' / 'x.png'}\n"
    assert Image.open(tmp_path / "new" / "x.png").width > 3 * 160


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "`DATA` must be a folder or an image"),
        ((".", "--augment", "rotate=40"), "rotate"),
        ((".", "--output", "sheet.txt"), "`--output` must be an image file"),
        ((".", "--image-size", "big"), "`--image-size`"),
    ],
)
def test_preview_refuses_wrong_options(arguments, message):
    with pytest.raises(UsageError, match=message):
        invoke(preview, *arguments)


def test_preview_needs_an_image(tmp_path):
    with pytest.raises(KerasxferError, match="has no image that can be read"):
        invoke(preview, tmp_path)


@pytest.mark.parametrize("name", ["report", "preview"])
def test_help_imports_nothing_heavy(name):
    code = (
        "import sys, contextlib\n"
        f"sys.argv = ['kerasxfer', '{name}', '--help']\n"
        "from kerasxfer.commands import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "heavy = {'keras', 'plotly', 'sklearn', 'matplotlib', 'jinja2', 'numpy', 'onnxruntime'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"kerasxfer {name}" in done.stdout
