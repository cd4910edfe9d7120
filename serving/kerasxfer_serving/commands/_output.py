"""What every command shares: data to stdout, the rest to stderr, and exit codes 0, 1 (known failure), 2 (usage)."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import typer


class Format(StrEnum):
    """How a command prints its result."""

    text = "text"
    json = "json"


def console() -> Any:
    """Rich console on stderr, for progress and notes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def note(message: str) -> None:
    """Print one line for a person, on stderr."""
    print(message, file=sys.stderr, flush=True)


def print_json(data: Any) -> None:
    """Print `data` as JSON on stdout."""
    print(json.dumps(data, indent=2, ensure_ascii=False, default=str), flush=True)


def print_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """Print rows with equal keys as a table on stdout."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for key in rows[0] if rows else ():
        table.add_column(escape(str(key)))
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    Console(highlight=False).print(table)


def run(app: typer.Typer, name: str) -> None:
    """Run a typer application; turn known errors into one message and an exit status."""
    from kerasxfer_serving.errors import KerasxferError, UsageError

    try:
        app(prog_name=name)
    except KerasxferError as error:
        note(f"Error: {error}")
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:  # the reader of our output has gone, `… | head`: not a failure of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
