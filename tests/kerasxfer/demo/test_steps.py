import io

import pytest
from rich.console import Console

from kerasxfer.demo.run import StepLog


def test_a_step_is_shown_when_it_is_done_with_what_came_of_it():
    text = io.StringIO()
    steps = StepLog(Console(file=text, width=80))
    with steps("Draw [images]") as note:
        note("12 [of] them")
        assert text.getvalue() == ""
    first, second = text.getvalue().splitlines()
    assert first.startswith("✓ Draw [images] ")
    assert second == "  12 [of] them"
    assert list(steps.seconds) == ["Draw [images]"]


def test_without_a_console_nothing_is_shown_but_time_is_kept(capsys):
    steps = StepLog()
    with steps("Draw"):
        pass
    assert capsys.readouterr() == ("", "")
    assert steps.seconds["Draw"] >= 0


def test_a_step_that_fails_is_not_ticked_off():
    text = io.StringIO()
    with pytest.raises(RuntimeError), StepLog(Console(file=text))("Draw"):
        raise RuntimeError
    assert "✓" not in text.getvalue()
