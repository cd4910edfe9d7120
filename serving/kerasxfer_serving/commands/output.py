"""What every command shares: data to stdout, the rest to stderr, and exit codes 0, 1 (known failure), 2 (usage)."""

import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kerasxfer_serving.errors import KerasxferError, UsageError, WriteError
from kerasxfer_serving.files import writing
from kerasxfer_serving.inputs.text import printable, printable_json, printable_lines

if TYPE_CHECKING:
    from rich.console import Console


def console() -> "Console":
    """Rich console on stderr, for progress and notes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def note(message: str) -> None:
    """Print one line for a person on stderr, with any terminal escapes in quoted names made harmless."""
    print(printable_lines(message), file=sys.stderr, flush=True)


def print_line(text: str) -> None:
    """Print one line of the result on stdout.

    Raises:
        WriteError: Standard output is closed, or cannot be written.
    """
    _print(printable_lines(text))


def print_json(data: object) -> None:
    """Print `data` as JSON on stdout."""
    _print(printable_json(json.dumps(data, indent=2, ensure_ascii=False, default=str)))


def print_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """Print rows with equal keys as a table on stdout."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for key in rows[0] if rows else ():
        table.add_column(escape(printable(str(key))))
    for row in rows:
        table.add_row(*(escape(printable(str(value))) for value in row.values()))
    with (console := Console(highlight=False)).capture() as printed:
        console.print(table)
    _print(printed.get().rstrip("\n"))


def run(app: Callable[..., Any], name: str) -> None:
    """Run a typer application; turn known errors into one message and an exit status."""
    _occupy_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may know less than Unicode
    try:
        try:
            app(prog_name=name)
        finally:
            _flush()
    except KerasxferError as error:
        _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:  # the reader of our output has gone, `… | head`: not a failure of ours
        _give_up_stdout()
        sys.exit(1)
    except OSError as error:
        where = "" if error.filename is None else f"`{os.fsdecode(error.filename)}`: "
        _fail(f"{where}{error.strerror or error}", 1)


def _print(text: str) -> None:
    if sys.stdout is None:
        raise WriteError("Standard output is closed, but the result goes there.")
    with writing("standard output", "Send it elsewhere."):
        print(text)


def _fail(message: str, status: int) -> None:
    note(f"Error: {message}")
    sys.exit(status)


def _occupy_closed_streams() -> None:
    """Keep the numbers of standard streams that are closed from files that are opened later."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # type: ignore[unreachable]


def _flush() -> None:
    if sys.stdout is None:
        return
    try:
        with writing("standard output", "Send it elsewhere."):
            sys.stdout.flush()
    except WriteError:
        _give_up_stdout()
        raise


def _give_up_stdout() -> None:
    """Have nothing that is still to be written fail once more at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
