import re
import sys
from xml.etree import ElementTree

import pytest
from kerasxfer_serving.benchmarking import Rules, benchmark
from kerasxfer_serving.benchmarking.pages import save_html, save_png
from kerasxfer_serving.errors import UsageError
from PIL import Image

RULES = Rules(seconds=0.01, batches=1, spread=1e9, stable=1e9)


@pytest.fixture(scope="module")
def report(model):
    return benchmark(model, device="cpu", batch_sizes=(1, 4), duration=0.03, rules=RULES, picture_size=(30, 40))


def test_png_is_an_image_with_something_on_it(report, tmp_path):
    pytest.importorskip("matplotlib")
    save_png(report, tmp_path / "bench.png")
    with Image.open(tmp_path / "bench.png") as image:
        assert image.width >= 1000
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20


def test_page_stands_alone_and_tells_all(report, tmp_path):
    pytest.importorskip("matplotlib")
    save_html(report, tmp_path / "bench.html")
    page = (tmp_path / "bench.html").read_text()
    assert "VALID" in page
    assert all(measurement.label in page for measurement in report.measurements)
    assert not re.findall(r"(?:src|href)=\"http", page.replace('xmlns:xlink="http', ""))
    ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])


def test_names_from_elsewhere_are_escaped(report, tmp_path):
    pytest.importorskip("matplotlib")
    report.model["name"] = "<script>alert(1)</script>.onnx"
    save_html(report, tmp_path / "bench.html")
    assert "<script>" not in (tmp_path / "bench.html").read_text()


def test_single_stream_alone_can_be_drawn(model, tmp_path):
    pytest.importorskip("matplotlib")
    one = benchmark(model, scenarios=("single-stream",), device="cpu", duration=0.03, rules=RULES, picture_size=(9, 9))
    save_png(one, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 1000


def test_without_matplotlib_the_error_names_the_command(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'kerasxfer-serving\[plot\]'"):
        save_png(report, tmp_path / "bench.png")
