"""A temporary folder that goes even where the process that made it is killed."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The guard waits for the end of its standard input, which comes with the end of its parent, however that ends.
# A process of its own session outlives a signal to the whole group; Windows has no sessions, but sends Ctrl-C alone.
# What still writes there may need a moment to stop.
_GUARD = """
import os, shutil, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.stdin.buffer.read()
for _ in range(100):
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    if not os.path.exists(sys.argv[1]):
        break
    time.sleep(0.1)
"""


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for the files in between, removed at the end of the block or of the process."""
    folder = tempfile.mkdtemp(prefix="kerasxfer-export-")
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _GUARD, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield Path(folder)
    finally:
        guard.communicate()
