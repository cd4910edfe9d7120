"""Work on many things at once, answered in order and with bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def map_in_order(function: Callable[[Item], Answer], items: Iterable[Item], workers: int) -> Iterator[Answer]:
    """Answers to items, worked out by threads.

    Ended by an error or by Ctrl-C, it does not wait for what is still being worked on.

    Args:
        function: Called in a thread of a pool.
        items: Taken from the iterator only as fast as they are worked on.
        workers: Number of threads.

    Yields:
        The answers, in the order of the items.
    """
    pending: deque[Future[Answer]] = deque()
    pool = ThreadPoolExecutor(workers, "kerasxfer")
    wait = True
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except GeneratorExit:  # the caller has had enough, and shall not find threads busy behind its back
        raise
    except BaseException:
        wait = False
        raise
    finally:
        pool.shutdown(wait, cancel_futures=True)


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last of what is left."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
