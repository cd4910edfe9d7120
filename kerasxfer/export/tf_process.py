"""Runs `kerasxfer.export.tf_worker` in a fresh TensorFlow process and brings back its graph."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx

from kerasxfer.export.custom_modules import Module
from kerasxfer.export.description import ImageInput
from kerasxfer.export.errors import ExportError

OPSETS = range(13, 19)  # what tf2onnx writes with operators per channel


def convert(
    model: Path,
    folder: Path,
    entry: ImageInput,
    *,
    output: str,
    opset: int,
    modules: Sequence[Module],
) -> onnx.ModelProto:
    """Convert a model file through tf2onnx.

    Args:
        model: a `.keras` file or a SavedModel folder.
        folder: an empty folder for the files in between.
        entry: size of the images, and what is to stand before the model.
        output: `"softmax"`, `"sigmoid"` or `"logits"`.
        opset: ONNX operator set, 13 to 18.
        modules: modules with custom layers.

    Returns:
        The graph as tf2onnx names it.

    Raises:
        ExportError: TensorFlow or tf2onnx is missing, or the conversion failed.
    """
    require_converter()
    target = folder / "converted.onnx"
    job = {
        "model": str(model.resolve()),
        "target": str(target),
        "image_size": entry.image_size,
        "preprocessing": entry.preprocessing,
        "output": output,
        "opset": opset,
        "modules": modules,
        "sys_path": [entry for entry in sys.path if entry],
    }
    job_file = folder / "job.json"
    job_file.write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, "-m", "kerasxfer.export.tf_worker", str(job_file)],
        env=_environment(),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0 or not target.is_file():
        raise ExportError(f"The conversion of `{model}` failed:\n{_last_words(done.stderr)}")
    return onnx.load(target)


def require_converter() -> None:
    """Raise `ExportError` where a package of the conversion is missing, with the command that installs it."""
    missing = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"The conversion to ONNX runs in TensorFlow, whatever the model's backend. Missing: {', '.join(missing)}. "
            'Install them with `pip install "kerasxfer[export]"`.'
        )


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",  # its fused operators have no place in a graph that leaves TensorFlow
        "PYTHONHASHSEED": "0",  # sets decide the order of nodes in tf2onnx
    }


def _last_words(stderr: str) -> str:
    """The exception of the converting process, without TensorFlow's log."""
    lines = stderr.strip().splitlines()
    start = max((number for number, line in enumerate(lines) if line.startswith("Traceback")), default=0)
    return "\n".join(lines[start:][-25:])
