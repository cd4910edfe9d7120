import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kerasxfer import export_onnx
from kerasxfer.export import tf_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the process does not stay")

CLASSES = ("cats", "dogs", "newts")
PARENT = """
import sys
from kerasxfer.export import tf_process
job = {"log": sys.argv[1]}
print(tf_process._WORKER._running(job).pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def export(small_model, samples, tmp_path):
    """Exports one model, each time to another file."""
    model = small_model(samples.images)
    numbers = itertools.count()

    def run(**arguments):
        path = tmp_path / f"{next(numbers)}.onnx"
        return export_onnx(model, path, class_names=CLASSES, verbose=False, **arguments)

    return run


def process():
    return tf_process._WORKER._process.pid


def test_one_process_converts_all_models_to_the_same_bytes(export):
    first, started = export(), process()
    assert export().file.sha256 == first.file.sha256
    assert process() == started


def test_a_process_that_has_ended_is_started_anew(export):
    first, started = export(), process()
    os.kill(started, signal.SIGKILL)
    assert export().file.sha256 == first.file.sha256
    assert process() != started


def test_a_conversion_has_the_environment_and_the_folder_of_its_time(export, monkeypatch, tmp_path):
    module = tmp_path / "export_test_surroundings.py"
    module.write_text(f"""
import os, tempfile
with open({str(tmp_path / "said.txt")!r}, "a") as file:
    print(os.environ.get("SURROUNDINGS"), os.getcwd(), tempfile.gettempdir(), file=file)
""")
    export()
    monkeypatch.setenv("SURROUNDINGS", "new")
    monkeypatch.chdir(tmp_path)
    export(modules=[str(module)])
    here, there = (tmp_path / "said.txt").read_text().splitlines()
    assert here.split()[:2] == there.split()[:2] == ["new", str(tmp_path)]
    assert "kerasxfer-export-" in there.split()[2]


def test_the_process_ends_with_its_parent(tmp_path):
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log.txt")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        worker = Path("/proc", parent.stdout.readline().strip())
        assert worker.exists()
        parent.kill()
    end = time.monotonic() + 60
    while worker.exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not worker.exists()
