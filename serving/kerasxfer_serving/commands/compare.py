from pathlib import Path
from typing import Annotated

import typer

from kerasxfer_serving.commands import choices, options, output


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="A report of `benchmark`.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Another report.")],
    format: options.FormatOption = choices.ResultFormat.text,
) -> None:
    """Compare two benchmark reports: what changed, and whether by more than repeats of each differ."""
    from dataclasses import asdict

    from kerasxfer_serving.benchmarking.reading import compare_files

    comparison = compare_files(before, after)
    if format is choices.ResultFormat.json:
        changes = [asdict(change) | {"ratio": change.ratio, "verdict": change.verdict} for change in comparison.changes]
        output.print_json(asdict(comparison) | {"changes": changes})
        return
    rows = [
        {
            "measurement": change.label,
            "A images/s": f"{change.before:,.1f}",
            "B images/s": f"{change.after:,.1f}",
            "B / A": f"{change.ratio:.3f}",
            "verdict": change.verdict,
        }
        for change in comparison.changes
    ]
    output.print_table(rows)
    for label in comparison.only:
        output.print_line(f"only in one of the two: {label}")
    for name, first, second in comparison.differences:
        output.print_line(f"{name}: {first} → {second}")
    for name in comparison.invalid:
        output.note(f"{name} is INVALID: do not quote its figures")
