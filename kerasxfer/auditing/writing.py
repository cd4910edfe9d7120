"""The files of an audit: the page, JSON, and the table of decisions."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kerasxfer_serving.files import write_atomically

from kerasxfer.auditing.page import render
from kerasxfer.auditing.result import Audit
from kerasxfer.data.decisions import COLUMNS


def write_audit(audit: Audit, folder: Path) -> None:
    """Write `audit.json`, `decisions.csv` and `audit.html`; decisions that are there stay.

    Args:
        audit: What was found.
        folder: Where to, made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "audit.json", json.dumps(to_dict(audit), indent=1, ensure_ascii=False) + "\n")
    if not (folder / "decisions.csv").exists():  # somebody may have filled it in
        write_atomically(folder / "decisions.csv", decisions_table(audit))
    write_atomically(folder / "audit.html", render(audit))


def to_dict(audit: Audit) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "format_version": 1,
        "folders": {name: root.as_posix() for name, root in audit.roots.items()},
        "images": audit.images,
        "class_names": audit.class_names,
        "accuracy": audit.accuracy,
        "without_leaked": [asdict(each) for each in audit.clean],
        "notes": audit.notes,
        **{name: [finding.to_dict() for finding in findings] for name, findings in audit.lists.items()},
    }


def decisions_table(audit: Audit) -> str:
    """The table of decisions as CSV, a row for each finding, with nothing decided."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for findings in audit.lists.values():
        table.writerows((each.path, each.problem, each.suggestion, "") for each in findings)
    return text.getvalue()
