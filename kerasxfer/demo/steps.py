"""Progress of the demo: a line per step, with what came of it and how long it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.markup import escape


class StepLog:
    """Shows steps one after the other on a console.

    Args:
        console: A rich console. Defaults to `None`: nothing is shown.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, title: str) -> Iterator[Callable[[str], None]]:
        """Run a step; what is given to the function it yields is printed when the step is done."""
        notes: list[str] = []
        start = time.perf_counter()
        with self.console.status(f"{escape(title)} …") if self.console else nullcontext():
            yield notes.append
        self.seconds[title] = time.perf_counter() - start
        if self.console:
            self.console.print(f"[green]✓[/] {escape(title)} [dim]{self.seconds[title]:.1f} s[/]", soft_wrap=True)
            for line in notes:
                self.console.print(f"  [cyan]{escape(line)}[/]", soft_wrap=True)
