import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def run_folders():
    """`tests/run_folders.py`, which no import finds: the tests are no package."""
    spec = importlib.util.spec_from_file_location("run_folders", Path(__file__).parents[2] / "run_folders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(run_folders, tmp_path):
    """A finished run of three classes with mistakes."""
    return run_folders.make_run(tmp_path / "three", ["amber", "green", "red"], per_class=20)
