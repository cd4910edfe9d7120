"""How far the computing of features has come."""

import contextlib
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(verbose: int, total: int, name: str) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left, on stderr.

    Args:
        verbose: 0 for none.
        total: Number of images.
        name: What is cached.

    Yields:
        A function to be called with the number of images that have been done.
    """
    if not verbose:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    start = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"Caching {name}", total=total, rate="")

        def advance(count: int) -> None:
            done = bar.tasks[0].completed + count
            bar.update(task, completed=done, rate=f"{done / (time.perf_counter() - start):.1f} images/s")

        yield advance
