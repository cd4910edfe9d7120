"""The command `kerasxfer-serving` in this process: starting Python for each run would be most of a test's time."""

import io
import signal
import sys
from typing import NamedTuple

from kerasxfer_serving.commands import main


class Done(NamedTuple):
    status: int
    stdout: str
    stderr: str


def command(*arguments: object) -> Done:
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2)]
    before, handler = (sys.argv, sys.stdout, sys.stderr), signal.getsignal(signal.SIGTERM)
    sys.argv = ["kerasxfer-serving", *map(str, arguments)]
    sys.stdout, sys.stderr = streams
    status = 0
    try:
        main()
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    finally:
        sys.argv, sys.stdout, sys.stderr = before
        signal.signal(signal.SIGTERM, handler)
    for stream in streams:
        stream.flush()
    stdout, stderr = (stream.buffer.getvalue().decode() for stream in streams)
    return Done(status, stdout, stderr)
