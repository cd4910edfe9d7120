"""The site in a real browser, opened as files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material", reason="mkdocs-material is not installed")

ROOT = Path(__file__).parents[2]
PAGES = [
    "index.html",
    "caching.html",
    "reference/kerasxfer.html",
    "reference/python/kerasxfer.html",
    "reference/http.html",
]
LOOKS = [(1280, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_opens_quietly_fits_and_is_accessible(open_page, violations, site, name, width, scheme):
    page = open_page((site / name).as_uri(), width=width, scheme=scheme)
    page.wait_for_load_state("load")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith(("data:", "blob:", site.as_uri()))] == []


def test_the_search_works_without_a_server(open_page, site):
    page = open_page((site / "index.html").as_uri())
    page.get_by_role("textbox", name="Search").fill("decompression_bomb")
    page.wait_for_selector(".md-search-result__item a")
    assert any("rows" in link.get_attribute("href") for link in page.locator(".md-search-result__item a").all())


@pytest.mark.parametrize(
    ("clicks", "found"),
    [
        (["How to", "Unfreeze in a script you already have"], "ProgressiveUnfreezing("),
        (["How to", "Use a GPU"], "--device cuda"),
        (["Reference", "Rows and status codes"], "not_an_image"),
    ],
    ids=["unfreeze", "gpu", "status"],
)
def test_is_found_in_under_three_clicks(open_page, site, clicks, found):
    page = open_page((site / "index.html").as_uri())
    for name in clicks:
        page.get_by_role("link", name=name, exact=True).first.click()
    assert found in page.locator("article").inner_text()
