"""The page of an audit in a real browser: hostile names, the keyboard, the table, and ten thousand thumbnails."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasxfer.auditing import page as audit_page
from kerasxfer.auditing.findings import Finding
from kerasxfer.auditing.result import Audit, CleanAccuracy

HOSTILE = ["<img src=x onerror=window.hit=1>", "<script>window.hit=2", "'\"><svg onload=window.hit=3>,\n"]


def made(root, name, colour):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((30, 40, 3), colour, "uint8")).save(path)
    return path.as_posix()


def audit_of(root, labels, duplicates=(), files=()):
    clean = [CleanAccuracy("validation", 40, 4, 0.9, 0.85)]
    images = {"train": 100, "validation": 40}
    roots = {"train": root / "train", "validation": root / "validation"}
    return Audit(
        images, HOSTILE, list(labels), list(duplicates), [], list(files), 0.97, clean, ["A <b>note</b>."], roots
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    root = tmp_path_factory.mktemp("audit")
    paths = [made(root, f"train/cats/{name}{k}.png", 20 * k) for k in range(4) for name in ("a", "<b>, \"'")]
    labels = [
        Finding(path, "likely wrong label", "A head says so.", f"label: {HOSTILE[0]}", "train", HOSTILE[k % 2 + 1],
                suggested=HOSTILE[0])
        for k, path in enumerate(paths)
    ]  # fmt: skip
    copies = [
        Finding(paths[0], "leak", "Equal.", "exclude", "train", HOSTILE[0], paths[1], HOSTILE[1]),
        Finding(paths[2], "look-alike", "Alike.", "look", "train", HOSTILE[0], paths[3], HOSTILE[0]),
    ]
    gone = [Finding((root / "train/gone.png").as_posix(), "cannot be read", "Empty.", "exclude", "train", "")]
    (root / "audit.html").write_text(audit_page.render(audit_of(root, labels, copies, gone)), "utf-8")
    return (root / "audit.html").as_uri()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_opens_quietly_fits_and_is_accessible(open_page, violations, url, width, scheme):
    page = open_page(url, width=width, scheme=scheme)
    for name in ("Labels", "Duplicates and leaks", "Files"):
        page.get_by_role("button", name=name).click()
        assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in violations(page)] == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.messages == []
    assert [each for each in page.requests if not each.startswith("data:")] == [url]


def test_hostile_names_are_shown_and_inert(open_page, url):
    page = open_page(url)
    assert page.locator(".finding").count() == 8
    assert page.locator(".finding .path").nth(1).inner_text().endswith("<b>, \"'0.png")
    assert HOSTILE[1] in page.locator(".finding").first.inner_text()
    page.get_by_role("button", name="Duplicates and leaks").click()
    page.wait_for_timeout(200)
    assert page.evaluate("window.hit") is None
    assert "A <b>note</b>." in page.locator("main").inner_text()
    assert "85.0%" in page.locator(".cards").inner_text()


def test_copies_stand_side_by_side_and_filters_choose(open_page, url):
    page = open_page(url)
    page.get_by_role("button", name="Duplicates and leaks").click()
    assert page.locator(".finding").first.locator("img").count() == 2
    page.get_by_label("Problem").select_option("look-alike")
    assert page.locator(".finding").count() == 1
    page.get_by_role("button", name="Files").click()
    assert page.locator(".finding .no-image").count() == 1


def test_decisions_by_keyboard_are_downloaded_and_kept(open_page, url, tmp_path):
    page = open_page(url)
    page.locator(".finding").first.focus()
    for key in ("e", "ArrowRight", "l", "ArrowRight", "k", "ArrowRight", "e", "u"):
        page.keyboard.press(key)
    assert page.evaluate("[...document.querySelectorAll('.finding')].indexOf(document.activeElement)") == 3
    assert "3 of 11 decided" in page.locator("#status").inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download decisions.csv").click()
    download.value.save_as(tmp_path / "decisions.csv")
    with (tmp_path / "decisions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "problem", "suggestion", "decision"]
    assert [row["decision"] for row in rows[:5]] == ["exclude", f"label: {HOSTILE[0]}", "keep", "", ""]
    assert Path(rows[1]["path"]).exists()
    page.get_by_label("Undecided only").check()
    assert page.locator(".finding").count() == 5
    page.reload()
    assert "3 of 11 decided" in page.locator("#status").inner_text()


def test_everything_is_reached_with_the_tab_key(open_page, url):
    page = open_page(url, width=390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the images"
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.textContent"
            )
        )
    assert {"download", "problem", "subset", "given", "open", "finding"} <= set(reached)


def test_ten_thousand_thumbnails_do_not_choke_the_page(open_page, tmp_path, monkeypatch):
    image = "data:image/jpeg;base64," + "A" * 5000
    monkeypatch.setattr(audit_page, "_thumbnails", lambda findings: {each.path: image for each in findings})
    labels = [Finding(f"train/{k}.jpg", "doubtful label", "So.", "look", "train", HOSTILE[0]) for k in range(10_000)]
    monkeypatch.setattr(audit_page, "THUMBNAILS", 10_000)
    (tmp_path / "many.html").write_text(audit_page.render(audit_of(tmp_path, labels)), "utf-8")
    page = open_page((tmp_path / "many.html").as_uri())
    assert "10,000 shown, page 1 of 209" in page.locator("#status").inner_text()
    assert page.locator(".finding").count() == 48, "more is drawn than can be seen"
    page.get_by_role("button", name="Next page").click()
    assert page.locator(".finding .path").first.inner_text() == "train/48.jpg"
    milliseconds = page.evaluate("(() => { const t = performance.now(); turn(1); return performance.now() - t; })()")
    assert milliseconds < 5000
