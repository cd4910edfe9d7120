import io
import time

from kerasxfer_serving import Predictor
from kerasxfer_serving.commands._progress import watch_run
from kerasxfer_serving.inputs.reader import Reader
from kerasxfer_serving.outputs.predictions import columns
from kerasxfer_serving.outputs.writer import StreamWriter
from kerasxfer_serving.pipeline import predict_to
from rich.console import Console


def test_the_bar_tells_done_rate_errors_and_bottleneck(model, tmp_path, draw_colours):
    draw_colours(tmp_path / "p", 30)
    (tmp_path / "p" / "bad.jpg").write_bytes(b"")
    reader = Reader([str(tmp_path / "p")])
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=160)
    with Predictor(model, device="cpu", batch_size=8) as predictor, watch_run(console, reader) as watch:
        writer = StreamWriter(io.BytesIO(), "csv", columns(predictor.manifest.class_names))
        predict_to(predictor, reader, writer, watch=watch)
        time.sleep(0.3)  # the bar is drawn ten times a second
    text = shown.getvalue()
    assert "31/31" in text
    assert "1 failed" in text
    assert "/s" in text
    assert "bottleneck: " in text


def test_what_cannot_be_counted_has_no_total(model):
    reader = Reader(["-"], stdin=io.BytesIO(b""))
    shown = io.StringIO()
    with watch_run(Console(file=shown, force_terminal=True, width=160), reader):
        time.sleep(0.2)
    assert "0/?" in shown.getvalue()
