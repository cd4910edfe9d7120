"""Options in groups: a frozen dataclass declares what several commands share, and each of them takes it whole."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


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
