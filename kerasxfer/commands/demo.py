from enum import StrEnum
from pathlib import Path
from typing import Annotated

from kerasxfer_serving.commands.choices import ResultFormat
from kerasxfer_serving.commands.options import FormatOption
from kerasxfer_serving.commands.output import console, print_json, print_table
from typer import Option


class Backbone(StrEnum):
    """Networks with a `block5`, which the demo unfreezes."""

    DemoVGG = "DemoVGG"
    VGG16 = "VGG16"
    VGG19 = "VGG19"


def demo(
    out: Annotated[Path, Option(help="Output folder.")] = Path("demo-run"),
    backbone: Annotated[
        Backbone, Option(help="DemoVGG comes with the package; the others use ImageNet weights.")
    ] = Backbone.DemoVGG,
    per_class: Annotated[int, Option(min=4, help="Training images per class.")] = 150,
    seed: Annotated[int, Option(min=0, max=2**31 - 1, help="Seed of the images, the weights and the order.")] = 0,
    overwrite: Annotated[bool, Option("--overwrite", help="Discard an earlier demo in OUT.")] = False,
    format: FormatOption = ResultFormat.text,
) -> None:
    """Run the whole workflow on synthetic images: train, unfreeze, export, predict, benchmark."""
    from kerasxfer.demo.run import StepLog, run_demo
    from kerasxfer.demo.summary import SHOWN, about

    stderr = console()
    stderr.print(about(backbone), style="dim", soft_wrap=True)
    steps = StepLog(stderr)
    result = run_demo(out, backbone.value, seed=seed, per_class=per_class, steps=steps, overwrite=overwrite)
    if format is ResultFormat.json:
        print_json(vars(result))
        return
    rows = (
        (f"weights of {backbone}", result.training_seconds, result.accuracy),
        ("random weights", result.training_seconds_from_scratch, result.accuracy_from_scratch),
    )
    print_table(
        [
            {"same network": name, "training": f"{time:.0f} s", "held-out accuracy": f"{share:.1%}"}
            for name, time, share in rows
        ],
        title="What transfer bought",
    )
    for name, what in SHOWN.items():
        print(f"{out / name}  {what}")
