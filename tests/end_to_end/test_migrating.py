"""The right-hand side of docs/migrating.md is one script that runs."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/migrating.md"


def test_our_side_of_the_page_runs_from_top_to_bottom(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 9
    # Under its own guard, as every script that starts processes.
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    result = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert re.search(r"\['(fish|house)', '(fish|house)'\] \[\[", result.stdout)
    assert (tmp_path / "curves.png").is_file()


def test_every_call_of_the_tutorials_has_its_row():
    text = PAGE.read_text(encoding="utf-8")
    for call in (
        "ImageDataGenerator",
        "flow_from_directory",
        "fit_generator",
        "predict_generator",
        "np.save",
        "trainable",
        "smooth_curve",
        "load_model",
    ):
        assert call in text
