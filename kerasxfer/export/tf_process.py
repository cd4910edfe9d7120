"""The conversion's folder, and the TensorFlow process, `kerasxfer.export.tf_worker`, that converts in it."""

import atexit
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import onnx

from kerasxfer.export.description import ImageInput
from kerasxfer.export.errors import ExportError
from kerasxfer.export.outputs import Output
from kerasxfer.export.source import Source, digest

OPSETS = range(13, 19)  # what tf2onnx writes with operators per channel

_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # its fused operators have no place in a graph that leaves TensorFlow
    "PYTHONHASHSEED": "0",  # sets decide the order of nodes in tf2onnx
}

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


def convert(source: Source, folder: Path, entry: ImageInput, output: Output, opset: int) -> onnx.ModelProto:
    """Convert a model through tf2onnx.

    Args:
        source: The opened model.
        folder: A folder of this process alone, for the files in between.
        entry: Size of the images, and what is to stand before the model.
        output: What the model's outputs are; the graph applies the activation to raw ones.
        opset: ONNX operator set, 13 to 18.

    Returns:
        The graph as tf2onnx names it.

    Raises:
        ExportError: If TensorFlow or tf2onnx is missing, or the conversion failed.
    """
    require_converter()
    target, log = folder / "converted.onnx", folder / "log.txt"
    job = {
        "model": str(source.file.resolve()),
        "sha256": digest(source.file),
        "preprocess_input": source.preprocess_input,
        "safe_mode": source.safe_mode,
        "target": str(target),
        "log": str(log),
        "image_size": entry.image_size,
        "preprocessing": entry.preprocessing,
        "activation": output.activation if output.raw else None,
        "opset": opset,
        "modules": source.modules,
        "sys_path": [entry for entry in sys.path if entry],
        "folder": str(Path.cwd()),
        "environment": {**os.environ, **_ENVIRONMENT, "TMPDIR": str(folder)},
    }
    log.touch()
    if not _WORKER.convert(job) or not target.is_file():
        raise ExportError(f"The conversion of `{source.model.name}` failed:\n{_last_words(log)}")
    return onnx.load(target)


def require_converter() -> None:
    """Raise `ExportError` where a package of the conversion is missing, with the command that installs it."""
    missing = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"The conversion to ONNX runs in TensorFlow, whatever the model's backend. Missing: {', '.join(missing)}. "
            'Install them with `pip install "kerasxfer[export]"`.'
        )


class _Worker:
    """A TensorFlow process, started when the first model is to be converted, which ends when it has not been used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def convert(self, job: dict[str, Any]) -> bool:
        """Whether the conversion of a job came to its end."""
        with self._lock:
            try:
                answer = self._ask(job) or self._ask(job)  # no answer: it had just ended for want of work
            except BaseException:
                self.end()
                raise
            return answer == "0\n"

    def _ask(self, job: dict[str, Any]) -> str:
        """Exit status of the conversion, a line; empty if the process has ended."""
        process = self._running(job)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            self.end()
        return answer

    def _running(self, job: dict[str, Any]) -> subprocess.Popen[str]:
        if self._process is None or self._owner != os.getpid():  # a fork must not talk to its parent's
            self._owner = os.getpid()
            with Path(job["log"]).open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "kerasxfer.export.tf_worker"],
                    env=os.environ | _ENVIRONMENT,
                    stdin=subprocess.PIPE,  # its end tells the worker that this process is gone
                    stdout=subprocess.PIPE,
                    stderr=log,
                    encoding="utf-8",
                )
        return self._process

    def end(self) -> None:
        """End the process, and what it is at."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe and pipe.close()


_WORKER = _Worker()
atexit.register(_WORKER.end)


def _last_words(log: Path) -> str:
    """The exception of the converting process, without TensorFlow's log."""
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    start = max((number for number, line in enumerate(lines) if line.startswith("Traceback")), default=0)
    return "\n".join(lines[start:][-25:])


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
