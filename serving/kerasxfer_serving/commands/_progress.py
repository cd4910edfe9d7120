"""The progress bar of `predict`: done, rate, errors, time left, bottleneck."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kerasxfer_serving.inputs.reader import Reader
from kerasxfer_serving.pipeline import Summary

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def watch_run(console: "Console", reader: Reader) -> Iterator[Callable[[Summary], None]]:
    """Show a run.

    Args:
        console: Rich console to draw on.
        reader: The inputs, counted in the background where that costs little: the time left needs their number.

    Yields:
        What to call with the `Summary` after every batch.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        stopped = threading.Event()
        if reader.repeatable:
            twin = Reader(reader.sources, root=reader.root, all_files=reader.all_files)
            count = lambda: progress.update(task, total=_count(twin, stopped))  # noqa: E731
            threading.Thread(target=count, daemon=True).start()

        def watch(summary: Summary) -> None:
            workers = ", ".join(f"{step} {rate:,.0f}/s" for step, rate in summary.worker_rates.items())
            text = f"{summary.rate:,.1f}/s (one worker: {workers})  {summary.errors:,} failed"
            progress.update(task, completed=summary.done, description=f"{text}  bottleneck: {summary.bottleneck}")

        try:
            yield watch
        finally:
            stopped.set()


def _count(reader: Reader, stopped: threading.Event) -> int | None:
    count = 0
    for count, _ in enumerate(reader, 1):  # noqa: B007
        if stopped.is_set():
            return None
    return count
