from pathlib import Path
from typing import Annotated

from kerasxfer_serving.commands import output
from kerasxfer_serving.commands.choices import Device, ResultFormat
from kerasxfer_serving.commands.options import FormatOption, grouped
from typer import Argument, Exit, Option

from kerasxfer.commands._options import PreprocessInputOption, TableOfLabels


@grouped
def check(
    model: Annotated[Path, Argument(metavar="MODEL.onnx", help="Exported file.", show_default=False)],
    against: Annotated[Path, Option(help="Run folder or model file that it was exported from.", show_default=False)],
    data: Annotated[Path, Option(help="Folder or table of labelled images.", show_default=False)],
    *,
    table: TableOfLabels,
    device: Annotated[Device, Option(help="Device to run the file on.")] = Device.cpu,
    import_: Annotated[
        list[str] | None, Option("--import", help="Module or .py file that defines custom layers.", show_default=False)
    ] = None,
    preprocess_input: PreprocessInputOption = None,
    unsafe: Annotated[
        bool, Option("--unsafe", help="Run code stored in the model file: Lambda layers, SavedModels.")
    ] = False,
    format: FormatOption = ResultFormat.text,
) -> None:
    """Compare an exported file with its Keras model on labelled images. Exits with 1 if they disagree."""
    from kerasxfer.export.check import check_file
    from kerasxfer.export.runtimes import notes

    result = check_file(
        model,
        against,
        data,
        table=table.said(),
        device=device,
        modules=import_ or (),
        preprocess_input=preprocess_input,
        safe_mode=not unsafe,
    )
    if format is ResultFormat.json:
        output.print_json(result.to_dict())
    else:
        print(f"{model} on {result.device}: {result.parity}")
        output.print_table([check.row() for check in result.runtimes], title="In each precision, on this machine")
        if result.tf32_difference is not None:
            print(f"largest difference that TF32 makes: {result.tf32_difference:.2g}")
        output.print_table(result.parity.worst, title="Farthest apart")
    if not result.same_source:
        output.note(f"`{against}` is not, or no longer, the model that was exported.")
    for note in notes(result.runtimes[1:], result.precision):
        output.note(note)
    if result.failure:
        output.note(f"Error: {result.failure}")
        raise Exit(1)
