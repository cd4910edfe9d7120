"""Installed as people install it: wheels in an environment outside the repository, with what they ask for alone."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
PROVIDED_BY = {"onnxruntime": "onnxruntime-gpu"}  # the development environment has the wheel that does both
PACKAGES = {"kerasxfer": ROOT, "kerasxfer_serving": ROOT / "serving"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Both source distributions, and the wheels built from them."""
    folder = tmp_path_factory.mktemp("dist")
    for source in PACKAGES.values():
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source)
    return folder


def run(*command, cwd=None, **environment):
    """Run a program to its end, in no checkout of ours; its output belongs to the failure."""
    outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**outside, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def wheel(dist, package):
    (found,) = dist.glob(f"{package}-*.whl")
    return found


def needed(requirements: list[str]) -> Iterator[metadata.Distribution]:
    """The distributions of this environment that requirements ask for, and what those ask for."""
    todo, seen = [Requirement(each) for each in requirements], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or name.startswith("kerasxfer"):
            continue
        seen.add(key)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            distribution = metadata.distribution(PROVIDED_BY[name])
        yield distribution
        for line in distribution.requires or ():
            child = Requirement(line)
            if any(wanted(child, extra) for extra in ("", *requirement.extras)):
                todo.append(child)


def wanted(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def requirements_of(wheels: list[Path], extras: set[str]) -> list[str]:
    """What the metadata of wheels asks for, with extras."""
    found = []
    for file in wheels:
        with zipfile.ZipFile(file) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            text = archive.read(name).decode()
        asked = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.+)$", text, re.MULTILINE)]
        found += [str(each) for each in asked if any(wanted(each, extra) for extra in {"", *extras})]
    return [re.sub(r";.*", "", each) for each in found]


def environment(folder: Path, wheels: list[Path], extras: set[str]) -> Path:
    """An environment of the wheels and links to what they ask for; its Python."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for distribution in needed(requirements_of(wheels, extras)):
        for entry in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            link(Path(str(distribution.locate_file(entry))), site / entry)
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", "--quiet", *wheels)
    return python


def link(source: Path, target: Path) -> None:
    """Link a file or folder; folders that several distributions share are merged one level down."""
    if not source.exists() or target.name == "__pycache__":
        return
    if source.is_dir() and target.is_symlink() and target.resolve() != source.resolve():
        raise AssertionError(f"two sources for {target}")
    if not target.exists():
        target.symlink_to(source, target_is_directory=source.is_dir())


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """The Python of an environment with the package, outside the repository."""
    wheels = [wheel(dist, "kerasxfer"), wheel(dist, "kerasxfer_serving")]
    return environment(tmp_path_factory.mktemp("all") / "env", wheels, {"tensorflow", "export", "report", "cpu"})


@pytest.fixture(scope="module")
def installed_serving(dist, tmp_path_factory):
    """The Python of an environment with serving alone."""
    return environment(tmp_path_factory.mktemp("serving") / "env", [wheel(dist, "kerasxfer_serving")], {"cpu"})


@pytest.fixture(scope="module")
def quickstart(installed, tmp_path_factory):
    """Where the README's first block has run in the environment with the package."""
    folder = tmp_path_factory.mktemp("quickstart")
    run(installed, "-c", SNIPPETS[0], cwd=folder, KERAS_BACKEND="tensorflow")
    return folder


def test_the_quickstart_runs_from_the_wheels(quickstart):
    assert (quickstart / "model.onnx").is_file()


def test_serving_alone_answers_with_the_model_of_the_quickstart(quickstart, installed_serving):
    printed = run(installed_serving, "-c", SNIPPETS[1], cwd=quickstart)
    assert "not_found" in printed
    command = installed_serving.parent / "kerasxfer-serving"
    run(command, "predict", "model.onnx", "images/fish", "-o", "rows.csv", cwd=quickstart)
    assert len((quickstart / "rows.csv").read_text().splitlines()) == 101


def test_serving_alone_has_no_framework(installed_serving, tmp_path):
    names = ["keras", "tensorflow", "jax", "torch", "kerasxfer"]
    script = f"import importlib.util as util; print([name for name in {names} if util.find_spec(name)])"
    assert run(installed_serving, "-c", script, cwd=tmp_path).strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_and_source_carry_licence_and_type_marker(dist, package):
    with zipfile.ZipFile(wheel(dist, package)) as archive:
        names = archive.namelist()
    assert f"{package}/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.split("/")[0] not in (package, names[-1].split("/")[0])]
    (source,) = dist.glob(f"{package}-*.tar.gz")
    with tarfile.open(source) as archive:
        inside = [name.partition("/")[2] for name in archive.getnames()]
    assert {"LICENSE", f"{package}/py.typed", "README.md", "pyproject.toml"} <= set(inside)
    assert not [name for name in inside if "__pycache__" in name or name.startswith(("tests", "benchmarks"))]


def test_both_licences_are_one():
    assert (ROOT / "LICENSE").read_bytes() == (ROOT / "serving/LICENSE").read_bytes()


def test_every_module_and_data_file_is_in_the_wheel(dist):
    for package, root in PACKAGES.items():
        tracked = subprocess.run(
            ["git", "ls-files", package], cwd=root, capture_output=True, text=True, check=True
        ).stdout.split()
        with zipfile.ZipFile(wheel(dist, package)) as archive:
            assert set(tracked) - set(archive.namelist()) == set()


def test_the_registry_can_render_the_pages(dist):
    printed = run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir())
    assert printed.count("PASSED") == 4
