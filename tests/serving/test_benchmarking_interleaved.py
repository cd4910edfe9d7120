from dataclasses import replace
from typing import ClassVar

import pytest
from kerasxfer_serving import Predictor
from kerasxfer_serving.benchmarking.data import draw_images
from kerasxfer_serving.benchmarking.interleaved import end_to_end_in_turns
from kerasxfer_serving.benchmarking.measuring import Rules
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.inputs.input import as_inputs

RULES = Rules(repeats=4)


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    (folder / "broken.jpg").write_text("text")
    return as_inputs([*draw_images(folder, (16, 20), count=7), folder / "broken.jpg"])


class Watched(Predictor):
    """Notes which predictor is at work, and that no other one is."""

    turns: ClassVar = []
    busy = None

    def stream(self, inputs, **kwargs):
        assert Watched.busy is None
        Watched.busy = self
        Watched.turns.append(self)
        yield from super().stream(inputs, **kwargs)
        Watched.busy = None


def test_models_take_turns(model, items):
    with Watched(model, batch_size=2) as one, Watched(model, batch_size=4) as other:
        measured = end_to_end_in_turns({"one": one, "other": other}, items, duration=0.04, rules=RULES)
        assert Watched.turns[-8:] == [one, other, other, one, one, other, other, one]
    assert list(measured) == ["one", "other"]
    for name, measurement in measured.items():
        assert measurement.name == "end_to_end"
        assert measurement.batch_size == (2 if name == "one" else 4)
        assert len(measurement.repeats) == 4
        assert measurement.rate > 0


def test_images_that_cannot_be_read_do_not_count(model, items):
    with Predictor(model, batch_size=8) as predictor:
        measured = end_to_end_in_turns({"it": predictor}, items, duration=0.04, rules=replace(RULES, repeats=2))
    assert measured["it"].padding == pytest.approx(1 / 8)


def test_there_must_be_images(model):
    with Predictor(model) as predictor, pytest.raises(UsageError, match="must hold an image"):
        end_to_end_in_turns({"it": predictor}, [])
