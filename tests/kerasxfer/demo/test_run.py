import sys

import pytest
from kerasxfer_serving.errors import KerasxferError

from kerasxfer.demo.run import run_demo


@pytest.mark.parametrize("missing", ["kerasxfer.report.page", "kerasxfer.report.evaluation"])
def test_what_the_last_step_needs_is_looked_for_before_the_first(missing, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(KerasxferError, match=r'pip install "kerasxfer\[report\]"'):
        run_demo(tmp_path / "demo", per_class=4)
    assert not (tmp_path / "demo").exists()
