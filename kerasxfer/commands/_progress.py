"""The progress bar of commands that go through images one by one or batch by batch."""

from collections.abc import Iterable, Sized
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """Go through `items` and show on a terminal how far that has come.

    Args:
        items: What to go through.
        what: What is done to them, as a participle.
        total: Their number. Defaults to `None`, their length.
    """
    from kerasxfer_serving.commands.output import console
    from rich.progress import track as show

    stderr = console()
    total = len(items) if total is None and isinstance(items, Sized) else total
    return show(items, what, total, console=stderr, transient=True, disable=not stderr.is_terminal)
