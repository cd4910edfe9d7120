"""The run report: one HTML page, from run folders to curves, figures and images.

runs.load_runs ─► predictions.predict_validation ─► metrics.evaluate ─► page.render ─► one file
                                                   charts, thumbnails, facts ┘
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.files import write_atomically, writing

from kerasxfer.data.tables.columns import NOTHING_SAID, TableOptions

if TYPE_CHECKING:
    from kerasxfer.report.page import RunResult


def require_report() -> None:
    """Raise `KerasxferError` where a package of the report is missing, with the command that installs it."""
    try:
        importlib.import_module("kerasxfer.report.evaluation")
        importlib.import_module("kerasxfer.report.page")
    except ModuleNotFoundError as error:
        raise KerasxferError(f'The report needs `{error.name}`. Run: pip install "kerasxfer[report]"') from None


def build_report(
    runs: Sequence[str | Path],
    output: str | Path,
    *,
    data: str | Path | None = None,
    table: TableOptions = NOTHING_SAID,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> "list[RunResult]":
    """Write the report of one or several runs.

    Args:
        runs: Run folders of `kerasxfer train`.
        output: The HTML file to write.
        data: Folder of class folders, or table, to measure on. Defaults to `None`: what each run was validated on.
        table: What is said about `data`, where it is a table. Defaults to nothing.
        progress: Wraps the loop over batches, to show it. Defaults to showing nothing.

    Returns:
        What the page shows of each run: the run, the predictions and their evaluation.

    Raises:
        KerasxferError: A folder is no run folder, the data do not fit the model, or the packages for reports are
            missing.
    """
    require_report()
    from kerasxfer.report.evaluation import evaluate_run
    from kerasxfer.report.page import RunResult, render
    from kerasxfer.report.predictions import predict_validation
    from kerasxfer.report.runs import load_runs

    results = []
    for run in load_runs([Path(folder) for folder in runs]):
        predictions = predict_validation(run, Path(data) if data else None, progress, table)
        if predictions is None:
            results.append(RunResult(run))
        else:
            evaluation = evaluate_run(run, predictions.labels, predictions.probabilities)
            results.append(RunResult(run, predictions, evaluation))
    output = Path(output)
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, render(results))
    return results
