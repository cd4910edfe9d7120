"""The report in a real browser. Needs Chromium (`apt-get install chromium`; another place: CHROMIUM=/path)."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")

HOSTILE = ["<img src=x onerror=window.hit=1>", "<script>window.hit=2", "'\"><svg onload=window.hit=3>"]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def run_folders():
    spec = importlib.util.spec_from_file_location("run_folders", Path(__file__).parents[1] / "run_folders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(run_folders, tmp_path_factory):
    """Two reports: one run with hostile names and everything on the page, and two runs compared."""
    from kerasxfer.report import build_report

    root = tmp_path_factory.mktemp("report")
    augment = {"rotation_range": 40, "horizontal_flip": True}
    one = run_folders.make_run(root / "<b>run", HOSTILE, per_class=20, augment=augment)
    other = run_folders.make_run(root / "plain", ["amber", "green", "red"], per_class=10)
    many = run_folders.make_run(root / "many", [f"class {i:02d}" for i in range(24)], per_class=2)
    build_report([one], root / "one.html")
    build_report([other, many], root / "compared.html")
    return {name: (root / f"{name}.html").as_uri() for name in ("one", "compared")}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, pages):
    """Opens a report and keeps what the browser said and asked for while it was open."""
    contexts = []

    def open_page(name, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_navigation_timeout(120_000)  # milliseconds; renderers have low priority on a busy machine
        contexts.append(context)
        page = context.new_page()
        page.said, page.requests = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append(dialog.message))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(pages[name])
        page.wait_for_selector(".chart .main-svg")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", ["one", "compared"])
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_opens_quietly_fits_and_is_accessible(open_page, pages, name, width, scheme):
    page = open_page(name, width, scheme)
    for details in page.locator("summary").all():
        details.click()
    violations = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.said == []
    assert [url for url in page.requests if not url.startswith("data:")] == [pages[name]]


def test_charts_are_drawn_with_their_data(open_page):
    page = open_page("one")
    assert page.locator(".chart").count() == 4
    for chart in page.locator(".chart").all():
        assert chart.locator(".trace").count() >= 2


def test_hostile_names_are_shown_and_inert(open_page):
    page = open_page("one")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit") is None
    assert page.locator("h1").inner_text() == "<b>run"
    for name in HOSTILE:
        assert page.get_by_role("rowheader", name=name, exact=True).count() >= 2
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.hit = 4'}))")
    assert page.evaluate("window.hit") is None, "the page's policy lets foreign scripts run"


def test_hostile_names_are_inert_in_charts(open_page):
    page = open_page("compared")
    labels = page.locator("#run-2-confusion .ytick text").all_text_contents()
    assert labels
    assert all(label.startswith("class ") for label in labels)


def test_buttons_switch_curves_and_scale(open_page):
    page = open_page("one")
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


def test_the_theme_can_be_switched_and_keeps_the_scale(open_page):
    page = open_page("one", scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Log scale").click()
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.evaluate("document.getElementById('run-1-curve-1').layout.yaxis.type") == "log"
    assert axe.Axe().run(page).response["violations"] == []


def test_the_arrow_keys_read_a_chart_out(open_page):
    page = open_page("one")
    page.locator("#run-1-curve-1").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    said = page.locator("#run-1-curve-1-live").inner_text()
    assert said.startswith("epoch 2: training 0.8, training, smoothed 0.64, validation 0.75")
    assert page.locator("#run-1-curve-1 .hoverlayer .legend").count() == 1


def test_everything_is_reached_with_the_tab_key(open_page):
    page = open_page("one", 390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert [name for name in ("theme", "Raw", "Smoothed", "Log scale", "run-1-curve-1") if name not in reached] == []
