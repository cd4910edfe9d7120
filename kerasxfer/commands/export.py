from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kerasxfer_serving.commands.choices import ActivationName, ResultFormat
from kerasxfer_serving.commands.options import FormatOption, grouped, read_size, read_thresholds
from kerasxfer_serving.commands.output import note, print_json, print_table
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.files import format_bytes
from typer import Argument, Option

from kerasxfer.commands._options import MODEL, PreprocessInputOption, TableOfLabels

if TYPE_CHECKING:
    from kerasxfer.export.report import Exported

_PROOF = "Proof"


class TargetDevice(StrEnum):
    """Where the file will run."""

    cpu = "cpu"
    gpu = "gpu"


class Precision(StrEnum):
    """Numbers that the file computes with."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


@grouped
def export(
    model: Annotated[Path, Argument(help="Run folder, .keras or .h5 file, or SavedModel.", show_default=False)],
    out: Annotated[Path, Option("--out", "-o", help="File to write.")] = Path("model.onnx"),
    target: Annotated[
        TargetDevice, Option(help="Where the file will run; `gpu` exports fp16 if that gives the model's answers.")
    ] = TargetDevice.cpu,
    precision: Annotated[
        Precision | None,
        Option(
            help="Precision of the weights; int8 needs --calibration. Defaults to that of --target.", show_default=False
        ),
    ] = None,
    opset: Annotated[int, Option(min=13, max=18, help="ONNX opset version.")] = 15,
    features: Annotated[bool, Option("--features", help="Output the pooled features too.")] = False,
    triton: Annotated[
        Path | None, Option(help="Also write to this Triton model repository.", show_default=False)
    ] = None,
    card: Annotated[
        bool, Option("--card", help="Also write a Hugging Face model card, README.md, next to the file.")
    ] = False,
    preprocessing: Annotated[
        str | None,
        Option(
            help="Normalisation to add in front of the model: vgg16, inception_v3, rescale, …",
            rich_help_panel=MODEL,
            show_default=False,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        Option(help="Class names separated by commas, or a file with them.", rich_help_panel=MODEL, show_default=False),
    ] = None,
    image_size: Annotated[
        str | None,
        Option(
            help="Size of the model's input: HEIGHTxWIDTH, or one number for a square.",
            rich_help_panel=MODEL,
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        ActivationName | None,
        Option(
            help="What the outputs are; raw scores become softmax or sigmoid.",
            rich_help_panel=MODEL,
            show_default=False,
        ),
    ] = None,
    multi_label: Annotated[
        bool,
        Option(
            "--multi-label",
            help="Images have any number of labels; a run folder already says so.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    threshold: Annotated[
        str | None,
        Option(
            help="Probability threshold for a label: one for all, or cat=0.3,dog=0.6. Defaults to the run's own.",
            rich_help_panel=MODEL,
            show_default=False,
        ),
    ] = None,
    import_: Annotated[
        list[str] | None,
        Option(
            "--import", help="Module or .py file that defines custom layers.", rich_help_panel=MODEL, show_default=False
        ),
    ] = None,
    preprocess_input: PreprocessInputOption = None,
    unsafe: Annotated[
        bool, Option("--unsafe", help="Run code stored in the file: Lambda layers, SavedModels.", rich_help_panel=MODEL)
    ] = False,
    check: Annotated[
        Path | None,
        Option(
            help="Folder or table of labelled images, to compare answers on all of them.",
            rich_help_panel=_PROOF,
            show_default=False,
        ),
    ] = None,
    runtimes: Annotated[
        str | None,
        Option(
            help="Runtimes to check and time on the images of --check: onnxruntime,openvino.",
            rich_help_panel=_PROOF,
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        Path | None,
        Option(
            help="Folder or table of images, to compare answers on some of them.",
            rich_help_panel=_PROOF,
            show_default=False,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        Option(help="Folder or table of images for int8 calibration.", rich_help_panel=_PROOF, show_default=False),
    ] = None,
    *,
    table: TableOfLabels,
    format: FormatOption = ResultFormat.text,
) -> None:
    """Export a Keras model to one ONNX file that gives the same answers, or fail."""
    if precision is Precision.int8 and calibration is None:
        raise UsageError("`--precision int8` needs `--calibration`: a folder of images like those the model will see.")

    if not out.name:
        raise UsageError(f"`--out` must name a file, such as model.onnx. Received: '{out}'")

    from kerasxfer.export.card import card_path, write_card
    from kerasxfer.export.pipeline import export_onnx
    from kerasxfer.export.triton import write_triton

    if card:
        card_path(out)  # refuse a README.md that is not ours before the work is done
    exported = export_onnx(
        model,
        out,
        precision=precision,
        target=target,
        opset=opset,
        class_names=_class_names(classes) if classes else None,
        image_size=read_size("--image-size", image_size) if image_size else None,
        preprocessing=preprocessing,
        output=output,
        multi_label=multi_label,
        thresholds=read_thresholds(threshold) if threshold is not None else None,
        features=features,
        samples=samples,
        calibration=calibration,
        check=check,
        table=table.said(),
        runtimes=[name.strip() for name in runtimes.split(",")] if runtimes else (),
        modules=import_ or (),
        preprocess_input=preprocess_input,
        safe_mode=not unsafe,
    )
    if triton is not None:
        note(f"Triton model: {write_triton(exported.file, triton)}")
    if card:
        note(f"Model card: {write_card(exported, model)}")
    if format is ResultFormat.json:
        print_json(exported.to_dict())
    else:
        _print(exported)


def _class_names(text: str) -> list[str]:
    from kerasxfer_serving.model.class_names import read_labels

    return read_labels(text) if Path(text).is_file() else text.split(",")


def _print(exported: "Exported") -> None:
    file = exported.file
    print(f"{file.path}  {format_bytes(file.size)}  {file.statistics['nodes']} nodes  sha256 {file.sha256}")
    for precision, parity in exported.parity.items():
        print(f"{precision}: {parity}")
    if exported.check is not None:
        print(f"labelled images: {exported.check}")
        print_table(exported.check.worst, title="Farthest apart")
    if exported.runtimes:
        print_table([check.row() for check in exported.runtimes], title="In each runtime, on this machine")
