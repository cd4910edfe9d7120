"""Options of several commands, each declared and read in one place, and groups of them that a command takes whole."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_type_hints

import typer

from kerasxfer_serving.commands import choices
from kerasxfer_serving.errors import UsageError

# Panels of `--help`.
ROWS = "Rows"
RUNNING = "Where and how the model runs"
STOPPING = "Errors and interruptions"
ON_RAY = "On a Ray cluster"

FormatOption: TypeAlias = Annotated[choices.ResultFormat, typer.Option(help="Output format.")]
DeviceOption: TypeAlias = Annotated[
    choices.Device,
    typer.Option(
        help="Device to run on, or fail if it cannot start. `openvino` is OpenVINO on the CPU. `auto` "
        "takes a GPU that starts, else `cpu`; `fastest` times each installed device for two seconds.",
        rich_help_panel=RUNNING,
    ),
]
CpuPrecisionOption: TypeAlias = Annotated[
    choices.CpuPrecision | None,
    typer.Option(
        help="Precision that OpenVINO computes in. Default: bf16 if the CPU has it and the manifest says that the "
        "model passed the parity gate in it, else f32.",
        rich_help_panel=RUNNING,
        show_default=False,
    ),
]
Tf32Option: TypeAlias = Annotated[
    bool, typer.Option(help="Let CUDA compute float32 products in TF32.", rich_help_panel=RUNNING)
]
CacheDirOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Folder where TensorRT keeps its engines and OpenVINO its compiled models.",
        rich_help_panel=RUNNING,
        show_default=False,
    ),
]
Sha256Option: TypeAlias = Annotated[
    str | None, typer.Option(help="SHA-256 that the model file must have.", show_default=False)
]
EngineOption: TypeAlias = Annotated[
    choices.EngineName, typer.Option(help="Run in this process or on a Ray cluster.", rich_help_panel=ON_RAY)
]
AddressOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Address of the cluster; `auto` finds it. Default: start Ray on this machine.",
        rich_help_panel=ON_RAY,
        show_default=False,
    ),
]
NumWorkersOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of workers. Default: as many as fit on the cluster.",
        rich_help_panel=ON_RAY,
        show_default=False,
    ),
]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose options include the fields of the groups that it takes.

    A group is a frozen dataclass. Its fields are annotated as Typer's parameters are, `Annotated[type, Option(…)]`, and
    have defaults. In `--help` they stand where the command names the group, which must be by keyword.

    Example:

    ```python
    from dataclasses import dataclass
    from typing import Annotated

    from typer import Option

    @dataclass(frozen=True)
    class TableOptions:
        image_column: Annotated[str | None, Option(help="Column of the images.")] = None

    @grouped
    def split(source: str, *, table: TableOptions) -> None:  # has --image-column
        print(source, table.image_column)
    ```
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, tuple[Any, list[str]]] = {}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        annotation = hints[parameter.name]
        if not is_dataclass(annotation):
            parameters.append(parameter.replace(annotation=annotation))
            continue
        declared = _options(annotation)
        groups[parameter.name] = annotation, [option.name for option in declared]
        parameters += declared

    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> None:
        made = {  # apart from what is given: a group may be called as an option of another is
            name: group(**{option: given.pop(option) for option in options if option in given})
            for name, (group, options) in groups.items()
        }
        command(*args, **given, **made)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _options(group: Any) -> list[inspect.Parameter]:
    """The fields of a group as parameters of a command."""
    hints = get_type_hints(group, include_extras=True)
    assert all(field.default is not MISSING for field in fields(group)), "an option has a default"
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(group)
    ]


def refuse_without_ray(engine: choices.EngineName, **options: object) -> None:
    """Refuse options of a cluster unless the engine is Ray.

    Args:
        engine: The engine asked for.
        **options: Values by parameter name; `None` if not given.

    Raises:
        UsageError: One is given without `--engine ray`.
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
        UsageError: The value is not a size.
    """
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() and 0 < len(side) < 7 for side in sides):
        sides = ["0"]
    height, width = int(sides[0]), int(sides[-1])
    if not height or not width:
        raise UsageError(f"`{option}` takes HEIGHTxWIDTH in pixels, or one number: 150x200 or 150. Received: {text!r}")
    return height, width


def read_integers(option: str, text: str, *, least: int) -> tuple[int, ...]:
    """Read `1,8,32`.

    Args:
        option: The option, for the message.
        text: Its value.
        least: The smallest number allowed.

    Raises:
        UsageError: The value is not a list of such integers.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 and int(part) >= least for part in parts):
        example = f"{least},{least + 1}"
        raise UsageError(f"`{option}` takes integers of at least {least}, such as {example}. Received: {text!r}")
    return tuple(map(int, parts))


def read_thresholds(text: str) -> float | dict[str, float]:
    """Read `0.4`, or `cat=0.3,dog=0.6`.

    Raises:
        UsageError: The value is neither.
    """
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.rpartition("=") for part in text.split(",")]
        return {name.strip(): float(figure) for name, _, figure in pairs}
    except ValueError:
        raise UsageError(
            f"`--threshold` takes one number, or one per class: cat=0.3,dog=0.6. Received: {text!r}"
        ) from None
