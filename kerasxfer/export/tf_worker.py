"""The conversion itself, in a process of its own: `python -m kerasxfer.export.tf_worker`, jobs by standard input.

tf2onnx's names depend on what the process has done before, so each model is converted by a copy of a process that has
done nothing but import TensorFlow: the bytes are repeatable. That also gives models of every backend one and the same
graph. `kerasxfer.export.tf_process` sets the backend, writes the jobs, and reads the exit status of each.
"""

import gc
import json
import os
import select
import sys
import tempfile
import threading
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from kerasxfer.lean_keras import import_keras_lean

_IDLE_SECONDS = 60
_STAYS = sys.platform == "linux"  # elsewhere a process that has loaded such libraries cannot be copied


def main() -> None:
    """Convert one model after another, until no more come."""
    while line := _next_line():
        job: dict[str, Any] = json.loads(line)
        sys.path.extend(entry for entry in job["sys_path"] if entry not in sys.path)
        _import()
        if not _STAYS:
            print(_converted(job))
            return
        if (child := os.fork()) == 0:
            os._exit(_converted(job))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _next_line() -> str:
    """A line of standard input; empty at its end, and after a while without one."""
    if _STAYS and not select.select([sys.stdin], [], [], _IDLE_SECONDS)[0]:
        return ""
    return sys.stdin.readline()


@cache
def _import() -> None:
    import_keras_lean()
    gc.disable()  # what is imported stays: looking for garbage in it is a fifth of TensorFlow's start
    for name in ("keras", "tensorflow", "tf2onnx.convert", "kerasxfer.export.served", "kerasxfer.export.source"):
        import_module(name)
    gc.freeze()
    gc.enable()


def _converted(job: dict[str, Any]) -> int:
    """Convert a model, with its job's surroundings and log; return an exit status."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answers = os.dup(1)
    with Path(job["log"]).open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    tempfile.tempdir = None
    try:
        _convert(job)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        os.dup2(answers, 1)
    return 0


def _convert(job: dict[str, Any]) -> None:
    import keras
    import tensorflow as tf

    from kerasxfer.export.served import as_served, prepare
    from kerasxfer.export.source import digest, import_modules, read_source

    import_modules([(name, file) for name, file in job["modules"]])
    file = Path(job["model"])
    if digest(file) != job["sha256"]:
        raise ValueError(f"`{file}` is not the file that was checked.")
    model = prepare(read_source(file, preprocess_input=job["preprocess_input"], safe_mode=job["safe_mode"]))
    served = as_served(model, tuple(job["image_size"]), job["preprocessing"], job["activation"])
    # A loaded functional model counts as never called, which Keras's exporter refuses.
    served(keras.ops.zeros((1, *job["image_size"], 3), "uint8"), training=False)
    # What Keras compiles with XLA, as it does grouped convolutions, would be a call that ONNX does not have.
    tf.config.run_functions_eagerly(True)
    served.export(job["target"], format="onnx", opset_version=job["opset"], verbose=False)


def _end_with_parent() -> None:
    """Standard input ends with the process at its other end, however that one ends."""
    os.read(sys.stdin.fileno(), 1)  # nothing is written while a job is done
    os._exit(1)


if __name__ == "__main__":
    main()
