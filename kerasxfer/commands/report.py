from pathlib import Path
from typing import Annotated, Any

from kerasxfer_serving.commands import _output
from typer import Argument, Option


def report(
    runs: Annotated[
        list[Path], Argument(metavar="RUN…", help="Run folders; several are compared.", show_default=False)
    ],
    data: Annotated[
        Path | None,
        Option(help="Folder of class folders to measure on. Defaults to the run's validation.", show_default=False),
    ] = None,
    output: Annotated[Path, Option("--output", "-o", help="HTML file to write.")] = Path("report.html"),
    format: Annotated[_output.Format, Option(help="How the result is printed.")] = _output.Format.text,
) -> None:
    """Show runs on one page: curves, accuracy, confusion, mistakes, settings."""
    from rich.progress import track

    from kerasxfer.report import build_report

    console = _output.console()

    def progress(batches: Any) -> Any:
        return track(batches, "Predicting", console=console, disable=not console.is_terminal, transient=True)

    results = build_report(runs, output, data=data, progress=progress)
    figures = [_figures(result) for result in results]
    if format is _output.Format.json:
        _output.print_json({"report": str(output), "runs": figures})
        return
    for row in figures:
        accuracy = row.get("accuracy")
        shown = (
            f"accuracy {accuracy:.4f} ({row['low']:.4f}–{row['high']:.4f})" if accuracy is not None else "curves only"
        )
        _output.note(f"{row['run']}: {shown}")
    print(output)


def _figures(result: Any) -> dict[str, Any]:
    evaluation = result.evaluation
    figures: dict[str, Any] = {"run": str(result.run.folder.path)}
    if evaluation is not None:
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
