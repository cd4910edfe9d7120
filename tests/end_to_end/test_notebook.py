"""The notebook runs from top to bottom, but for its pip line, and shows what it promises."""

import os
import sys
from pathlib import Path

import nbformat
import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

NOTEBOOK = Path(__file__).parents[2] / "examples/quickstart.ipynb"


def execute(folder, monkeypatch):
    """The notebook with its outputs, run in a folder without its cell that installs."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "install" not in cell.metadata.get("tags", ())]
    # The kernel and the commands of this environment, which may not be on the path.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "tensorflow"))
    client = nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(folder)}})
    return client.execute()


def shown(notebook, kind):
    """All outputs of a MIME type, in order."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


def test_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs] == []


@pytest.mark.timeout(900)
def test_runs_from_top_to_bottom_and_shows_everything(tmp_path, monkeypatch):
    notebook = execute(tmp_path, monkeypatch)
    assert len(shown(notebook, "image/png")) == 3  # augmented images, curves, answers
    html = "\n".join(shown(notebook, "text/html"))
    for part in ("block5", "<th>boundary</th>", "not_found", "INVALID", "<iframe srcdoc="):
        assert part in html
    assert (tmp_path / "model.onnx").is_file()
