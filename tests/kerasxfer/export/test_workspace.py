import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kerasxfer.export.tf_process import workspace

HOLDS_ONE = """
from kerasxfer.export.tf_process import workspace
import time
with workspace() as folder:
    (folder / "file").write_bytes(b"x")
    print(folder, flush=True)
    time.sleep(600)
"""


def until(condition):
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_the_folder_goes_with_the_block():
    with workspace() as folder:
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("group", [False, True])
def test_the_folder_goes_where_the_process_is_killed(group):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_ONE], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    folder = Path(process.stdout.readline().strip())
    assert (folder / "file").is_file()
    (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert until(lambda: not folder.exists())
