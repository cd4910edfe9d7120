"""What holds the two distributions together: one version, one arrow, commands that answer at once."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"keras", "tensorflow", "jax", "torch"}


def _imports(folder: Path) -> dict[str, set[str]]:
    found = {}
    for file in sorted(folder.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        found[str(file.relative_to(ROOT))] = {name.split(".")[0] for name in names}
    return found


def test_both_distributions_carry_one_version():
    source = (ROOT / "serving/kerasxfer_serving/__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"kerasxfer-serving=={version}" in project["project"]["dependencies"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert project["tool"]["hatch"]["version"]["path"] == "serving/kerasxfer_serving/__init__.py"


def test_serving_knows_neither_keras_nor_kerasxfer():
    found = _imports(ROOT / "serving/kerasxfer_serving")
    assert len(found) > 10
    assert {
        file: names & (FRAMEWORKS | {"kerasxfer"})
        for file, names in found.items()
        if names & (FRAMEWORKS | {"kerasxfer"})
    } == {}


def test_the_library_never_chooses_the_backend():
    for file in (ROOT / "kerasxfer").rglob("*.py"):
        assert not re.search(
            r"environ\[.KERAS_BACKEND.\] =|setdefault\(.KERAS_BACKEND", file.read_text(encoding="utf-8")
        ), file


@pytest.mark.parametrize("package", ["kerasxfer", "kerasxfer_serving"])
@pytest.mark.parametrize("command", [["--help"], ["predict", "--help"]])
def test_help_imports_neither_keras_nor_onnx_runtime(package, command):
    script = (
        f"import sys, json; sys.argv = [{package.replace('_', '-')!r}, *{command!r}]\n"
        f"from {package}.commands import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(json.dumps([name for name in sys.modules if '.' not in name]), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(result.stderr.splitlines()[-1]))
    assert "Usage" in result.stdout
    assert loaded & (FRAMEWORKS | {"onnxruntime", "onnx", "matplotlib", "PIL"}) == set()


def test_importing_kerasxfer_registers_its_layers():
    script = "import kerasxfer, keras; print(keras.saving.get_registered_object('kerasxfer>Preprocess').__name__)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "Preprocess"
