"""The page of an audit: one HTML file to look through and to decide on."""

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

from kerasxfer_serving import __version__
from kerasxfer_serving.errors import ImageError, KerasxferError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.runtime.resources import available_cores

from kerasxfer.auditing.findings import Finding
from kerasxfer.auditing.result import Audit

THUMBNAILS = 2_500
"""Findings of each list that are shown with images; the rest is there in words."""

_SIDE = 144
_TITLES = {
    "labels": (
        "Labels",
        "The least probable first, to heads that have not seen the images. In clean data none of the first twenty "
        "was wrong: look at each.",
    ),
    "duplicates": ("Duplicates and leaks", "Copies across sets first, then copies with other labels, then copies."),
    "outliers": ("Outliers", "The least like their neighbours first."),
    "files": ("Files", "Those that cannot be read first, what is no image last. The rest may be as it should be."),
}


def render(audit: Audit) -> str:
    """Put the page together.

    Args:
        audit: What was found.

    Raises:
        KerasxferError: The packages for reports are missing.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise KerasxferError(f'The page needs `{error.name}`. Run: pip install "kerasxfer[report]"') from None
    environment = Environment(
        loader=PackageLoader("kerasxfer.auditing"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates = files("kerasxfer.auditing") / "templates"
    script = (templates / "page.js").read_text("utf-8")
    report = files("kerasxfer.report") / "templates"
    return environment.get_template("page.html.j2").render(
        version=__version__,
        name=audit.roots["train"].name or "data",
        css=(report / "page.css").read_text("utf-8") + (templates / "page.css").read_text("utf-8"),
        script=script,
        script_hash=f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'",
        cards=_cards(audit),
        notes=[*map(str, audit.clean), *audit.notes],
        lists=[
            {"name": name, "title": title, "about": about, "count": len(audit.lists[name])}
            for name, (title, about) in _TITLES.items()
        ],
        findings=[{"list": name, **each.to_dict()} for name, found in audit.lists.items() for each in found],
        class_names=audit.class_names,
        thumbnails=_thumbnails([each for found in audit.lists.values() for each in found[:THUMBNAILS]]),
    )


def _cards(audit: Audit) -> list[dict[str, str]]:
    cards = [
        {"label": f"Images of {name}", "value": f"{count:,}", "note": f"{len(audit.class_names)} classes"}
        for name, count in audit.images.items()
    ]
    if audit.accuracy is not None:
        note = "of a linear head, out of fold, all sets"
        cards.append({"label": "Accuracy", "value": f"{audit.accuracy:.1%}", "note": note})
    for each in audit.clean:
        value = "–" if each.without_leaked is None else f"{each.without_leaked:.1%}"
        note = f"{each.leaked:,} leaked images left out; with them {each.accuracy:.1%}"
        cards.append({"label": f"Accuracy on {each.subset}", "value": value, "note": note})
    return cards


def _thumbnails(findings: list[Finding]) -> dict[str, str]:
    paths = dict.fromkeys(path for each in findings for path in (each.path, each.other) if path)
    policy = ImagePolicy()

    def make(path: str) -> tuple[str, Any]:
        from kerasxfer.report.thumbnails import thumbnail

        try:
            return path, thumbnail(Path(path), policy, _SIDE)
        except ImageError:
            return path, None

    with ThreadPoolExecutor(available_cores()) as pool:
        return {path: image for path, image in pool.map(make, paths) if image is not None}
