"""Keeps what TensorFlow's native code says of itself off the terminal, unless `--verbose`."""

import functools
import inspect
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

from typer import Option

# The lines of absl's and TensorFlow's logs, information to errors; what is fatal is passed on.
_LOG_LINE = re.compile(
    rb"[IWE]\d{4} \d\d:\d\d:|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] |WARNING: All log messages before absl|"
    rb"To enable the following instructions:"
)


Verbose = Annotated[bool, Option("--verbose", help="Also show what TensorFlow's libraries log.")]


def quiet(command: Callable[..., None]) -> Callable[..., None]:
    """A command that is quiet, with one more option, `--verbose`."""

    @functools.wraps(command)
    def run(*args: Any, verbose: bool = False, **kwargs: Any) -> None:
        if not verbose:
            drop_log_lines()
        command(*args, **kwargs)

    signature = inspect.signature(command)
    option = inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Verbose)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "verbose": Verbose}
    return run


def drop_log_lines() -> None:
    """Let a process of its own read standard error and pass on all but log lines.

    TensorFlow's libraries write to file descriptor 2 while they load, whatever log level the environment sets. What
    Python writes to `sys.stderr` goes straight to the terminal, as before; so does the last word of a process that
    crashes, which a thread would be too late for.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.__stderr__ is None or sys.stderr is not sys.__stderr__ or not hasattr(os, "fork"):
        return
    terminal, (reading, writing) = os.dup(2), os.pipe()
    if os.fork() == 0:
        os.closerange(0, 2)  # who reads our output need not wait for this process
        os.close(writing)
        _pass_on(reading, terminal)
    os.close(reading)
    encoding, errors = sys.__stderr__.encoding, sys.__stderr__.errors
    sys.stderr = open(terminal, "w", 1, encoding, errors)  # noqa: PTH123, SIM115  (for the rest of the process)
    os.dup2(writing, 2)
    os.close(writing)


def _pass_on(reading: int, terminal: int) -> None:
    """Copy lines until nobody can write any more. Does not return."""
    try:
        os.setsid()  # Ctrl-C is not for this process: it ends after those that it reads
        with os.fdopen(reading, "rb") as lines:
            for line in lines:
                if not _LOG_LINE.match(line):
                    os.write(terminal, line)
    finally:
        os._exit(0)
