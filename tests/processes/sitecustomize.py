"""Every Python process that a test starts imports Keras as our commands do: in half of the time."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("lean_keras", Path(__file__).parents[2] / "kerasxfer" / "lean_keras.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
_module.import_keras_lean()
