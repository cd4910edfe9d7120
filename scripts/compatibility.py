"""Run a few decisive tests with several versions of Keras, and write the table of docs/compatibility.md.

    python scripts/compatibility.py --keras 3.10.0 3.15.1 --backends tensorflow jax

A row, which is a Keras on a backend, takes a minute or two. Rows of earlier runs stay in
benchmarks/results/compatibility.json, so the table can be made in parts.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TypedDict

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/compatibility.json"
PAGE = ROOT / "docs/compatibility.md"
TABLE = re.compile(r"(<!-- table -->\n).*?(<!-- end -->)", re.DOTALL)
FOLDER = "tests/kerasxfer"
# Each file belongs to one column: that is how an outcome finds its cell.
TESTS = {
    "unfreezing": [
        f"{FOLDER}/keras_internals/test_contract.py",
        f"{FOLDER}/keras_internals/test_graph.py",
        f"{FOLDER}/keras_internals/test_untested_keras.py::test_this_keras_keeps_every_contract",
        f"{FOLDER}/unfreezing/test_fit.py::test_weights_move_in_their_stage_and_not_before",
        f"{FOLDER}/unfreezing/test_fit.py::test_a_transition_leaves_every_slot_as_it_was",
        f"{FOLDER}/unfreezing/test_fit.py::test_a_later_stage_steps_as_a_recompiled_model_does",
        f"{FOLDER}/unfreezing/test_fit.py::test_batch_norm_trains_where_a_stage_says_so",
        f"{FOLDER}/unfreezing/test_resume.py::test_a_killed_run_ends_as_the_whole_one",
        f"{FOLDER}/unfreezing/test_resume.py::test_a_keras_file_of_a_middle_stage_goes_on_with_its_moments",
    ],
    "cache equality": [
        f"{FOLDER}/bottleneck/test_fit.py::test_two_epochs_on_a_seeded_folder_are_those_of_fit",
        f"{FOLDER}/bottleneck/test_fit.py::test_arrays_with_weights_and_metrics",
        f"{FOLDER}/bottleneck/test_fit.py::test_backup_and_restore_goes_on_where_it_was",
        f"{FOLDER}/bottleneck/test_schedule.py::test_a_schedule_is_that_of_fit",
    ],
    "export parity": [
        f"{FOLDER}/export/test_pipeline.py::test_the_file_gives_the_model_s_answers",
        f"{FOLDER}/export/test_pipeline.py::test_a_greyscale_model_is_exported_on_colour_images",
        f"{FOLDER}/export/test_pipeline.py::test_a_subclassed_model_that_was_called",
    ],
}
RECIPES = ("fine_tune_last_block.py",)
COLUMNS = (*TESTS, "recipes")
BACKENDS = ("tensorflow", "jax", "torch")

Cells = dict[str, dict[str, int]]


class Row(TypedDict):
    """A Keras on a backend: the version of the backend, and how often each outcome came in each column."""

    version: str
    cells: Cells


def main() -> None:
    """Run the rows that were asked for, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras", nargs="*", default=[version("keras")], metavar="VERSION")
    parser.add_argument("--backends", nargs="*", default=BACKENDS, choices=BACKENDS)
    parser.add_argument("--overlays", type=Path, default=Path(tempfile.gettempdir()) / "keras-overlays")
    arguments = parser.parse_args()
    for keras in arguments.keras:
        overlay = lay_over(keras, arguments.overlays)
        for backend in arguments.backends:
            environment = environment_of(overlay, backend)
            record(keras, backend, {**run_tests(environment), "recipes": run_recipes(environment)})
            write_page()


def lay_over(keras: str, folder: Path) -> Path:
    """Install a Keras, without what it depends on, into a folder of its own."""
    overlay = folder / keras
    if not overlay.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(overlay)]
        subprocess.run([*pip, f"keras=={keras}"], check=True)
    return overlay


def environment_of(overlay: Path, backend: str) -> dict[str, str]:
    """The variables under which a program finds the Keras of an overlay, and the backend."""
    path = os.pathsep.join([str(overlay), *filter(None, [os.environ.get("PYTHONPATH")])])
    jax = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # the tests spend their time in compiling
    return {**os.environ, **jax, "PYTHONPATH": path, "KERAS_BACKEND": backend}


def run_tests(environment: dict[str, str]) -> Cells:
    """Run the tests of all columns in one process; how many of each passed, failed and were skipped."""
    with tempfile.TemporaryDirectory() as folder:
        outcomes = Path(folder) / "outcomes.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "--tb=short", "--disable-warnings"]
        command += [f"--junitxml={outcomes}", f"--basetemp={folder}/tests", *chain.from_iterable(TESTS.values())]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        if done.returncode not in (0, 1):
            raise SystemExit(f"pytest did not run the tests: exit code {done.returncode}")
        cases = list(ElementTree.parse(outcomes).iter("testcase"))
    return {column: count(map(outcome, filter(belongs_to(tests), cases))) for column, tests in TESTS.items()}


def belongs_to(tests: list[str]) -> Callable[[ElementTree.Element], bool]:
    """Tells whether a test case is in one of the files that tests are in."""
    modules = {test.partition(".py")[0].replace("/", ".") for test in tests}
    return lambda case: case.get("classname") in modules


def outcome(case: ElementTree.Element) -> str:
    """How a test case ended."""
    tags = {child.tag for child in case}
    return "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"


def run_recipes(environment: dict[str, str]) -> dict[str, int]:
    """Run recipes in their quick mode; how many ended well."""
    ended = []
    for recipe in RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, f"examples/{recipe}", "--quick", "--out", folder]
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
        ended.append("failed" if done.returncode else "passed")
    return count(ended)


def count(outcomes: Iterable[str]) -> dict[str, int]:
    """How often each outcome came, also where it did not."""
    return {"passed": 0, "failed": 0, "skipped": 0, **Counter(outcomes)}


def record(keras: str, backend: str, cells: Cells) -> None:
    """Add a row to what is known."""
    known = results()
    known.setdefault(keras, {})[backend] = {"version": version(backend), "cells": cells}
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def results() -> dict[str, dict[str, Row]]:
    """What was run, by Keras and backend."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def write_page() -> None:
    """Put the table between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda marks: marks[1] + table(results()) + marks[2], page), encoding="utf-8")


def table(known: dict[str, dict[str, Row]]) -> str:
    """A row for each Keras and backend, newest first."""
    lines = ["| Keras | backend | " + " | ".join(COLUMNS) + " |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for keras in sorted(known, key=lambda name: [int(part) for part in re.findall(r"\d+", name)], reverse=True):
        for backend in filter(known[keras].__contains__, BACKENDS):
            row = known[keras][backend]
            cells = " | ".join(cell(row["cells"][column]) for column in COLUMNS)
            lines.append(f"| {keras} | {backend} {row['version']} | {cells} |")
    return "\n".join(lines) + "\n"


def cell(outcomes: dict[str, int]) -> str:
    """Outcomes in a few characters: all that did occur."""
    numbers = {name: str(number) for name, number in outcomes.items() if number}
    if "failed" in numbers:
        numbers["failed"] = f"**{numbers['failed']}**"
    return ", ".join(f"{number} {name}" for name, number in numbers.items())


if __name__ == "__main__":
    main()
