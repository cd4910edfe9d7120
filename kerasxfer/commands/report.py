import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kerasxfer_serving.commands.choices import ResultFormat
from kerasxfer_serving.commands.options import FormatOption, grouped
from kerasxfer_serving.commands.output import note, print_json
from typer import Argument, Option

from kerasxfer.commands._options import TableOfLabels
from kerasxfer.commands._progress import track

if TYPE_CHECKING:
    from kerasxfer.report.page import RunResult


@grouped
def report(
    runs: Annotated[
        list[Path], Argument(metavar="RUN…", help="Run folders; give several to compare them.", show_default=False)
    ],
    data: Annotated[
        Path | None,
        Option(
            help="Class folders or a table to evaluate on. Defaults to the run's validation set.", show_default=False
        ),
    ] = None,
    *,
    table: TableOfLabels,
    output: Annotated[Path, Option("--output", "-o", help="HTML file to write.")] = Path("report.html"),
    format: FormatOption = ResultFormat.text,
) -> None:
    """Report on runs in one page: curves, accuracy, confusion matrix, mistakes, settings."""
    from kerasxfer.report import build_report

    progress = functools.partial(track, what="Predicting")
    results = build_report(runs, output, data=data, table=table.said(), progress=progress)
    figures = [_figures(result) for result in results]
    if format is ResultFormat.json:
        print_json({"report": str(output), "runs": figures})
        return
    for row in figures:
        name = next((name for name in ("accuracy", "mean_average_precision") if name in row), None)
        interval = f"{row[name]:.4f} ({row['low']:.4f}–{row['high']:.4f})" if name else "only"
        note(f"{row['run']}: {(name or 'curves').replace('_', ' ')} {interval}")
    print(output)


def _figures(result: "RunResult") -> dict[str, Any]:
    from kerasxfer.multi_label.figures import LabelEvaluation
    from kerasxfer.report import label_page

    evaluation = result.evaluation
    figures: dict[str, Any] = {"run": str(result.run.folder.path)}
    if isinstance(evaluation, LabelEvaluation):
        figures |= {"pictures": len(evaluation.predicted)} | label_page.figures(evaluation)
    elif evaluation is not None:
        figures |= {
            "pictures": len(evaluation.predicted),
            "accuracy": evaluation.accuracy.value,
            "low": evaluation.accuracy.low,
            "high": evaluation.accuracy.high,
            "macro_f1": evaluation.macro_f1,
            "log_loss": evaluation.log_loss,
            "calibration_error": evaluation.calibration_error,
        }
    return figures
