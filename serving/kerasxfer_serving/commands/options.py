"""The options that several commands share, each declared and read once."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from kerasxfer_serving.commands import choices
from kerasxfer_serving.errors import UsageError

# Panels of `--help`.
ROWS = "Rows"
RUNNING = "Where and how the model runs"
STOPPING = "Errors and interruptions"
ON_RAY = "On a Ray cluster"

FormatOption: TypeAlias = Annotated[choices.ResultFormat, typer.Option(help="How to print the result.")]
DeviceOption: TypeAlias = Annotated[
    choices.Device,
    typer.Option(
        help="A device named here is used or refused, never replaced; `openvino` is the CPU in OpenVINO. `auto` takes "
        "a GPU that starts, else `cpu`; `fastest` tries what is installed for two seconds each.",
        rich_help_panel=RUNNING,
    ),
]
CpuPrecisionOption: TypeAlias = Annotated[
    choices.CpuPrecision | None,
    typer.Option(
        help="What OpenVINO computes in. Default: bf16 where the model's manifest says that it passed the gate so, and "
        "the CPU has it; else f32.",
        rich_help_panel=RUNNING,
        show_default=False,
    ),
]
Tf32Option: TypeAlias = Annotated[
    bool, typer.Option(help="Let CUDA round float32 products to TF32.", rich_help_panel=RUNNING)
]
CacheDirOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Folder in which TensorRT keeps its engines and OpenVINO what it compiled.",
        rich_help_panel=RUNNING,
        show_default=False,
    ),
]
Sha256Option: TypeAlias = Annotated[
    str | None, typer.Option(help="SHA-256 that the model file must have.", show_default=False)
]
EngineOption: TypeAlias = Annotated[
    choices.EngineName, typer.Option(help="What does the work: this process, or a Ray cluster.", rich_help_panel=ON_RAY)
]
AddressOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Address of the cluster; `auto` finds it. Default: Ray on this machine alone.",
        rich_help_panel=ON_RAY,
        show_default=False,
    ),
]
NumWorkersOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of workers. Default: as many as the cluster has room for.",
        rich_help_panel=ON_RAY,
        show_default=False,
    ),
]


def refuse_without_ray(engine: choices.EngineName, **options: object) -> None:
    """Refuse options that only a cluster has where the engine is not Ray.

    Args:
        engine: The engine asked for.
        **options: Values by the names of the parameters; `None` where not given.

    Raises:
        UsageError: One is given.
    """
    for name, value in options.items():
        if engine is not choices.EngineName.ray and value is not None:
            raise UsageError(f"`--{name.replace('_', '-')}` needs `--engine ray`. Received: --engine {engine}")


def read_size(option: str, text: str) -> tuple[int, int]:
    """Read `150` or `150x200` as (height, width) in pixels.

    Args:
        option: The option, for the message.
        text: Its value.

    Raises:
        UsageError: It is not a size.
    """
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() and 0 < len(side) < 7 for side in sides):
        sides = ["0"]
    height, width = int(sides[0]), int(sides[-1])
    if not height or not width:
        raise UsageError(f"`{option}` is HEIGHTxWIDTH in pixels, or one side, as in 150x200 or 150. Received: {text!r}")
    return height, width


def read_integers(option: str, text: str, *, least: int) -> tuple[int, ...]:
    """Read `1,8,32`.

    Args:
        option: The option, for the message.
        text: Its value.
        least: The least number that is allowed.

    Raises:
        UsageError: One is not such a number.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 and int(part) >= least for part in parts):
        example = f"{least},{least + 1}"
        raise UsageError(f"`{option}` takes integers of at least {least}, as in {example}. Received: {text!r}")
    return tuple(map(int, parts))


def read_thresholds(text: str) -> float | dict[str, float]:
    """Read `0.4`, or `cat=0.3,dog=0.6`.

    Raises:
        UsageError: It is neither.
    """
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.rpartition("=") for part in text.split(",")]
        return {name.strip(): float(figure) for name, _, figure in pairs}
    except ValueError:
        raise UsageError(f"`--threshold` is a number, or one by class as cat=0.3,dog=0.6. Received: {text!r}") from None
