"""The page of a choice in a real browser."""

import numpy as np
import pytest
from kerasxfer_serving.benchmarking.measuring import Measurement, Repeat

from kerasxfer.choosing.answers import Answers
from kerasxfer.choosing.candidates import Candidate
from kerasxfer.choosing.learning_curve import LearningCurve
from kerasxfer.choosing.learning_rates import LearningRateTrial
from kerasxfer.choosing.page import write_choice
from kerasxfer.choosing.results import Choice, Result
from kerasxfer.choosing.speed import Speed

HOSTILE = "<img src=x onerror=window.hit=1>"


def result(name, right, rate):
    truth = np.arange(1000) < right
    answers = Answers(np.ones(1000, int), np.stack([~truth, truth], axis=1).astype(float))
    measured = Measurement("end_to_end", 8, (Repeat(rate, (1.0,)),) * 3, 0.0, True)
    speed = Speed({"fp32": measured, "int8": measured}, {"fp32": 10**6, "int8": 10**5}, 0.99)
    return Result(Candidate(name, (96, 96)), answers, answers.score, 10**6, 0.1, speed)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A page with everything that it may show."""
    folder = tmp_path_factory.mktemp("choose")
    choice = Choice(
        class_names=["a", "b"],
        images=1000,
        results=[result("VGG16", 980, 20), result("MobileNet", 976, 200), result("MobileNetV2", 930, 300)],
        left_out={"InceptionV3@150": f"No file '{HOSTILE}'."},
        min_rate=10.0,
        notes=[HOSTILE],
        cores_of_others=1.0,
        curve=LearningCurve((125, 250, 500, 1000), (0.1, 0.07, 0.05, 0.04), 0.03),
        trials=[LearningRateTrial("block5", rate, 3, 0.3, 0.9) for rate in (0.0, 1e-4)],
        command="kerasxfer train photos --backbone MobileNet --image-size 96 " + "--cache a/long/way/to/a/folder " * 4,
    )
    return write_choice(choice, folder, HOSTILE).as_uri()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_opens_quietly_fits_and_is_accessible(open_page, violations, url, width, scheme):
    page = open_page(url, width=width, scheme=scheme)
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in violations(page)] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("window.hit") is None
    assert HOSTILE in page.locator("h1").inner_text()
    assert page.messages == []
    assert [each for each in page.requests if not each.startswith("data:")] == [url]
