"""The run report: one HTML page, from run folders to curves, figures and pictures.

runs.load_runs ─► predictions.predict ─► metrics.evaluate ─► page.render ─► one file
                                                   charts, thumbnails, facts ┘
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kerasxfer_serving.errors import KerasxferError

if TYPE_CHECKING:
    from kerasxfer.report.page import Result


def build_report(
    runs: Sequence[str | Path],
    output: str | Path,
    *,
    data: str | Path | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> "list[Result]":
    """Write the report of one or several runs.

    Args:
        runs: run folders of `kerasxfer train`.
        output: the HTML file to write.
        data: folder of class folders to measure on. Defaults to `None`: what each run was validated on.
        progress: wraps the loop over batches, to show it. Defaults to showing nothing.

    Returns:
        What the page shows of each run: the run, the predictions and their evaluation.

    Raises:
        KerasxferError: a folder is no run folder, the data do not fit the model, or the packages for reports are
            missing.
    """
    try:
        from kerasxfer.report.metrics import evaluate
        from kerasxfer.report.page import Result, render
    except ModuleNotFoundError as error:
        raise KerasxferError(f'The report needs `{error.name}`. Run: pip install "kerasxfer[report]"') from None
    from kerasxfer.report.predictions import predict
    from kerasxfer.report.runs import load_runs

    results = []
    for run in load_runs([Path(folder) for folder in runs]):
        predictions = predict(run, Path(data) if data else None, progress)
        if predictions is None:
            results.append(Result(run))
        else:
            evaluation = evaluate(predictions.labels, predictions.probabilities, run.class_names)
            results.append(Result(run, predictions, evaluation))
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(render(results), encoding="utf-8")
    return results
