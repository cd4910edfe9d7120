"""The conversion itself, in a process of its own: `python -m kerasxfer.export.tf_worker JOB.json`.

tf2onnx's names depend on what the process has done before; a fresh one makes the bytes repeatable. It also gives
models of every backend one and the same graph. `kerasxfer.export.tf_process` sets the backend and writes the job.
"""

import gc
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from kerasxfer.lean_keras import import_keras_lean


def main(job_file: str) -> None:
    """Convert the model of a job file to its `target`, a raw ONNX file."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job: dict[str, Any] = json.loads(Path(job_file).read_text(encoding="utf-8"))
    sys.path.extend(entry for entry in job["sys_path"] if entry not in sys.path)

    import_keras_lean()
    gc.disable()  # what is imported stays: looking for garbage in it is a fifth of TensorFlow's start
    import keras
    import tensorflow as tf

    from kerasxfer.export.served import as_served, prepare
    from kerasxfer.export.source import digest, import_modules, read_source

    gc.freeze()
    gc.enable()
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
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
