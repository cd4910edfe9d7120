"""Results as a notebook shows them."""

import numpy as np
from kerasxfer_serving.notebook import html_table
from kerasxfer_serving.outputs.predictions import Predictions


def test_cells_are_escaped_and_rows_end_where_they_should():
    html = html_table([{"<b>": "<script>", "n": 1, "x": 0.123456}] * 3, caption="a & b", most=2)
    assert "<script>" not in html
    assert html.count("&lt;script&gt;") == 2
    assert "0.1235" in html
    assert "<p>a &amp; b</p>" in html


def test_predictions_show_the_first_rows_and_count_the_bad_ones():
    many = 25
    status = ["ok"] * (many - 1) + ["empty"]
    probabilities = np.full((many, 2), [0.25, 0.75], np.float32)
    paths = [f"{number}.jpg" for number in range(many)]
    predictions = Predictions(("cats", "dogs"), paths, status, [""] * many, probabilities, [(4, 3)] * many)
    html = predictions._repr_html_()
    assert html.count("<tr>") == 21
    assert "25 images, 1 without an answer." in html
    assert "dogs" in html
    assert "nan" not in Predictions(("a", "b"), [], [], [], probabilities[:0], [])._repr_html_()
