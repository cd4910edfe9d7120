import shutil
from pathlib import Path
from typing import Annotated

from kerasxfer_serving.commands import _output
from kerasxfer_serving.errors import KerasxferError
from typer import Option

_MARK = "demo.json"


def demo(
    out: Annotated[Path, Option(help="Folder to fill.")] = Path("demo-run"),
    backbone: Annotated[
        str, Option(help="DemoVGG, which comes with the package; VGG16 or VGG19 with ImageNet weights.")
    ] = "DemoVGG",
    per_class: Annotated[int, Option(help="Pictures of each class to learn from.")] = 150,
    seed: Annotated[int, Option(help="Of pictures, weights and order.")] = 0,
    overwrite: Annotated[bool, Option("--overwrite", help="Discard an earlier demo in OUT.")] = False,
    format: Annotated[_output.Format, Option(help="How the result is printed.")] = _output.Format.text,
) -> None:
    """See the whole way on drawn pictures: train, unfreeze, export, predict, benchmark."""
    console = _output.console()
    _prepare(out, overwrite)
    from kerasxfer.demo.run import run_demo
    from kerasxfer.demo.steps import Steps
    from kerasxfer.demo.summary import SHOWN, about

    console.print(about(backbone), style="dim", soft_wrap=True)
    result = run_demo(out, backbone, seed=seed, per_class=per_class, steps=Steps(console))
    if format is _output.Format.json:
        _output.print_json(vars(result))
        return
    rows = (
        (f"weights of {backbone}", result.training_seconds, result.accuracy),
        ("random weights", result.training_seconds_from_scratch, result.accuracy_from_scratch),
    )
    _output.print_table(
        [
            {"same network": name, "training": f"{time:.0f} s", "held-out accuracy": f"{share:.1%}"}
            for name, time, share in rows
        ],
        title="What transfer bought",
    )
    for name, what in SHOWN.items():
        print(f"{out / name}  {what}")


def _prepare(out: Path, overwrite: bool) -> None:
    """Make an empty folder; only what an earlier demo left is ever discarded."""
    if out.is_dir() and any(out.iterdir()):
        if not (out / _MARK).is_file():
            raise KerasxferError(f"`--out` must be missing, empty or an earlier demo. Received: '{out}', other files")
        if not overwrite:
            raise KerasxferError(f"'{out}' holds a demo. Discard it with `--overwrite`, or choose another `--out`.")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).write_text("{}\n")
