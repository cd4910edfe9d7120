"""Ctrl-C and a scheduler's notice: the first ends a run and keeps what is done, a second one ends it at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGINT and SIGTERM raise `KeyboardInterrupt` within the context, once.

    From then on they have their default effect: a second one ends the process, wherever it is. That is safe at any
    moment, since what is committed is on disk.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    for number in _SIGNALS:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        if not interrupted:
            for number, handler in before.items():
                signal.signal(number, handler)
