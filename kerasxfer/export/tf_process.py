"""The conversion's folder, and `kerasxfer.export.tf_worker` run in it by a fresh TensorFlow process."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from kerasxfer.export.description import ImageInput
from kerasxfer.export.errors import ExportError
from kerasxfer.export.outputs import Output
from kerasxfer.export.source import Source, digest

OPSETS = range(13, 19)  # what tf2onnx writes with operators per channel

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
    target = folder / "converted.onnx"
    job = {
        "model": str(source.file.resolve()),
        "sha256": digest(source.file),
        "preprocess_input": source.preprocess_input,
        "safe_mode": source.safe_mode,
        "target": str(target),
        "image_size": entry.image_size,
        "preprocessing": entry.preprocessing,
        "activation": output.activation if output.raw else None,
        "opset": opset,
        "modules": source.modules,
        "sys_path": [entry for entry in sys.path if entry],
    }
    job_file = folder / "job.json"
    job_file.write_text(json.dumps(job), encoding="utf-8")
    failed, stderr = _run(job_file, folder)
    if failed or not target.is_file():
        raise ExportError(f"The conversion of `{source.model.name}` failed:\n{_last_words(stderr)}")
    return onnx.load(target)


def require_converter() -> None:
    """Raise `ExportError` where a package of the conversion is missing, with the command that installs it."""
    missing = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"The conversion to ONNX runs in TensorFlow, whatever the model's backend. Missing: {', '.join(missing)}. "
            'Install them with `pip install "kerasxfer[export]"`.'
        )


def _run(job_file: Path, folder: Path) -> tuple[bool, str]:
    """Whether the worker failed, and its standard error."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "kerasxfer.export.tf_worker", str(job_file)],
        env=_environment(folder),
        stdin=subprocess.PIPE,  # never written to: its end tells the worker that this process is gone
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert worker.stderr is not None
    try:
        stderr = worker.stderr.read()
        return worker.wait() != 0, stderr
    finally:
        worker.kill()
        worker.wait()
        for pipe in (worker.stdin, worker.stderr):
            pipe and pipe.close()


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",  # its fused operators have no place in a graph that leaves TensorFlow
        "PYTHONHASHSEED": "0",  # sets decide the order of nodes in tf2onnx
        "TMPDIR": str(folder),
    }


def _last_words(stderr: str) -> str:
    """The exception of the converting process, without TensorFlow's log."""
    lines = stderr.strip().splitlines()
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
