"""The Python blocks of docs/choosing.md run, one after the other."""

import re
from pathlib import Path

from kerasxfer.demo import draw_folder

PAGE = Path(__file__).parents[3] / "docs" / "choosing.md"


def test_the_python_blocks_of_the_page_run(tmp_path, monkeypatch, capsys):
    draw_folder(tmp_path / "pets" / "train", per_class=8, size=48, seed=1)
    monkeypatch.chdir(tmp_path)
    exec("\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)), {})
    assert len(re.findall(r"accuracy 0\.\d{4} \(", capsys.readouterr().out)) == 2
