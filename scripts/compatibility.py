"""Run the tests that rest on Keras with several of its versions, and write the table of docs/compatibility.md.

    python scripts/compatibility.py --keras 3.10.0 3.15.1 --backends tensorflow jax

What was run before stays in benchmarks/results/compatibility.json, so the table can be made in parts.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/compatibility.json"
PAGE = ROOT / "docs/compatibility.md"
TABLE = re.compile(r"(<!-- table -->\n).*?(<!-- end -->)", re.DOTALL)
TESTS = {
    "unfreezing": ["tests/kerasxfer/keras_internals", "tests/kerasxfer/unfreezing"],
    "cache equality": ["tests/kerasxfer/bottleneck/test_fit.py", "tests/kerasxfer/bottleneck/test_schedule.py"],
    "export parity": ["tests/kerasxfer/export/test_parity.py", "tests/kerasxfer/export/test_pipeline.py"],
    "recipes": ["tests/end_to_end/test_examples.py"],
}
BACKENDS = ("tensorflow", "jax", "torch")


def main() -> None:
    """Run the cells that were asked for, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras", nargs="*", default=[version("keras")], metavar="VERSION")
    parser.add_argument("--backends", nargs="*", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--tests", nargs="*", default=list(TESTS), choices=TESTS)
    parser.add_argument("--overlays", type=Path, default=Path(tempfile.gettempdir()) / "keras-overlays")
    arguments = parser.parse_args()
    for keras in arguments.keras:
        overlay = lay_over(keras, arguments.overlays)
        for backend in arguments.backends:
            for tests in arguments.tests:
                record(keras, backend, tests, run(overlay, backend, TESTS[tests]))
    write_page()


def lay_over(keras: str, folder: Path) -> Path:
    """Install a Keras, without what it depends on, into a folder of its own."""
    overlay = folder / keras
    if not overlay.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(overlay)]
        subprocess.run([*pip, f"keras=={keras}"], check=True)
    return overlay


def run(overlay: Path, backend: str, tests: list[str]) -> dict[str, int]:
    """Run tests with the Keras of an overlay; how many passed, failed and were skipped."""
    path = os.pathsep.join([str(overlay), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": backend}
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder) / "outcome.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "--tb=line", "--disable-warnings"]
        command += ["--numprocesses=2", "--dist=loadfile", f"--junitxml={outcome}", *tests]
        command += ["-k", backend] if tests == TESTS["recipes"] else []
        subprocess.run(command, cwd=ROOT, env=environment, check=False)
        suite = ElementTree.parse(outcome).getroot().find("testsuite")
    count = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    return {"passed": count["tests"] - failed - count["skipped"], "failed": failed, "skipped": count["skipped"]}


def record(keras: str, backend: str, tests: str, outcome: dict[str, int]) -> None:
    """Add a cell to what is known."""
    known = results()
    outcome |= {"with": {"jax": "jax", "torch": "torch"}.get(backend, "tensorflow")}
    outcome["with"] += f" {version(outcome['with'])}"
    known.setdefault(keras, {}).setdefault(backend, {})[tests] = outcome
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def results() -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    """What was run, by Keras, backend and tests."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def write_page() -> None:
    """Put the table between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda marks: marks[1] + table(results()) + marks[2], page), encoding="utf-8")


def table(known: dict[str, dict[str, dict[str, dict[str, object]]]]) -> str:
    """A row for each Keras and backend, newest first; `–` where nothing was run."""
    lines = ["| Keras | backend | " + " | ".join(TESTS) + " |", "| --- " * (len(TESTS) + 2) + "|"]
    for keras in sorted(known, key=lambda name: [int(part) for part in re.findall(r"\d+", name)], reverse=True):
        for backend in filter(known[keras].__contains__, BACKENDS):
            cells = known[keras][backend]
            used = next(iter(cells.values()))["with"]
            lines.append(f"| {keras} | {used} | " + " | ".join(cell(cells.get(tests)) for tests in TESTS) + " |")
    return "\n".join(lines) + "\n"


def cell(outcome: dict[str, object] | None) -> str:
    """An outcome in a few characters."""
    if outcome is None:
        return "–"
    return f"{outcome['passed']} passed" + (f", **{outcome['failed']} failed**" if outcome["failed"] else "")


if __name__ == "__main__":
    main()
