"""Plans as a notebook shows them."""

import numpy as np

import kerasxfer
from kerasxfer.callbacks import ProgressiveUnfreezing


def test_plans_are_tables_that_say_what_the_text_says():
    model = kerasxfer.image_classifier("DemoVGG", ["cats", "dogs"], (32, 32))
    model.compile("adam", "sparse_categorical_crossentropy")
    stages = [kerasxfer.Stage(epochs=1), kerasxfer.Stage("block5", epochs=1)]
    images = np.zeros((4, 32, 32, 3), "uint8")
    plans = (
        ProgressiveUnfreezing(stages).plan(model),
        kerasxfer.BottleneckCache("cache", verbose=0).plan(model, (images, np.zeros(4)), stages),
    )
    for plan in plans:
        html = plan._repr_html_()
        assert html.count("<tr>") == 3
        assert str(plan).splitlines()[3] in html
        assert "block5" in html
