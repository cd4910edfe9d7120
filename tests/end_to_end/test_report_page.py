"""The report in a real browser."""

import pytest
from run_folders import make_run

from kerasxfer.report import build_report

HOSTILE = ["<img src=x onerror=window.hit=1>", "<script>window.hit=2", "'\"><svg onload=window.hit=3>"]
LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Two reports: one run with hostile names and everything on the page, and two runs compared."""
    root = tmp_path_factory.mktemp("report")
    augment = {"rotation_range": 40, "horizontal_flip": True}
    one = make_run(root / "<b>run", HOSTILE, per_class=20, augment=augment)
    other = make_run(root / "plain", ["amber", "green", "red"], per_class=10)
    many = make_run(root / "many", [f"class {i:02d}" for i in range(24)], per_class=2)
    build_report([one], root / "one.html")
    build_report([other, many], root / "compared.html")
    return {name: (root / f"{name}.html").as_uri() for name in ("one", "compared")}


@pytest.fixture
def open_report(open_page, pages):
    def open_report(name, **looks):
        page = open_page(pages[name], **looks)
        page.wait_for_selector(".chart .main-svg")
        return page

    return open_report


@pytest.mark.parametrize("name", ["one", "compared"])
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_opens_quietly_fits_and_is_accessible(open_report, violations, pages, name, width, scheme):
    page = open_report(name, width=width, scheme=scheme)
    for details in page.locator("summary").all():
        details.click()
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in violations(page)] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.messages == []
    assert [url for url in page.requests if not url.startswith("data:")] == [pages[name]]


def test_charts_are_drawn_with_their_data(open_report):
    page = open_report("one")
    assert page.locator(".chart").count() == 4
    for chart in page.locator(".chart").all():
        assert chart.locator(".trace").count() >= 2


def test_hostile_names_are_shown_and_inert(open_report):
    page = open_report("one")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit") is None
    assert page.locator("h1").inner_text() == "<b>run"
    for name in HOSTILE:
        assert page.get_by_role("rowheader", name=name, exact=True).count() >= 2
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.hit = 4'}))")
    assert page.evaluate("window.hit") is None, "the page's policy lets foreign scripts run"


def test_hostile_names_are_inert_in_charts(open_report):
    page = open_report("compared")
    labels = page.locator("#run-2-confusion .ytick text").all_text_contents()
    assert labels
    assert all(label.startswith("class ") for label in labels)


def test_buttons_switch_curves_and_scale(open_report):
    page = open_report("one")
    chart = page.locator("#run-1-curve-1")
    assert chart.locator(".trace").count() == 4
    for name, left in (("Raw", 2), ("Smoothed", 0)):
        button = page.get_by_role("button", name=name)
        button.click()
        assert button.get_attribute("aria-pressed") == "false"
        assert chart.locator(".trace").count() == left
    page.get_by_role("button", name="Raw").click()
    page.get_by_role("button", name="Log scale").click()
    assert page.evaluate("document.getElementById('run-1-curve-2').layout.yaxis.type") == "log"


def test_the_theme_can_be_switched_and_keeps_the_scale(open_report, violations):
    page = open_report("one", scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Log scale").click()
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.evaluate("document.getElementById('run-1-curve-1').layout.yaxis.type") == "log"
    assert violations(page) == []


def test_the_arrow_keys_read_a_chart_out(open_report):
    page = open_report("one")
    page.locator("#run-1-curve-1").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    said = page.locator("#run-1-curve-1-live").inner_text()
    assert said.startswith("epoch 2: training 0.8, training, smoothed 0.64, validation 0.75")
    assert page.locator("#run-1-curve-1 .hoverlayer .legend").count() == 1


def test_everything_is_reached_with_the_tab_key(open_report):
    page = open_report("one", width=390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert [name for name in ("theme", "Raw", "Smoothed", "Log scale", "run-1-curve-1") if name not in reached] == []
