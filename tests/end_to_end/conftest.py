"""Small images that a classifier can tell apart, drawn for each test; pages in a real browser.

The browser is Chromium (`apt-get install chromium`; another place: CHROMIUM=/path). Without it, its tests are skipped.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def draw_classes(root: Path, per_class: int = 12, size: int = 48, seed: int = 0) -> Path:
    """Write `per_class` noisy stripes of each direction under `root/horizontal` and `root/vertical`."""
    rng = np.random.default_rng(seed)
    for name in ("horizontal", "vertical"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            stripes = np.sin(np.arange(size) * rng.uniform(0.5, 0.9) + rng.uniform(0, 6)) * 90 + 128
            pixels = np.broadcast_to(stripes[:, None] if name == "horizontal" else stripes[None, :], (size, size))
            noisy = pixels[..., None] + rng.normal(0, 12, (size, size, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / name / f"{i:03}.png")
    return root


@pytest.fixture
def class_folders(tmp_path):
    """A folder of two class folders, twelve images each."""
    return draw_classes(tmp_path / "images")


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a URL; the page keeps its `errors`, its `messages` (errors among them) and its `requests`."""
    contexts = []

    def open_page(url, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(120_000)  # milliseconds; renderers have low priority on a busy machine
        contexts.append(context)
        page = context.new_page()
        page.errors, page.messages, page.requests = [], [], []
        page.on("console", lambda message: page.messages.append(message.text))
        page.on("dialog", lambda dialog: page.messages.append(dialog.message))
        for said in (page.errors, page.messages):
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def violations():
    """Finds what of a page breaks the rules of accessibility, by axe."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    return lambda page: axe.Axe().run(page).response["violations"]
