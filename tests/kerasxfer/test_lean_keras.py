import json
import subprocess
import sys

import keras

CODE = """
import json, sys
from kerasxfer.lean_keras import import_keras_lean
import_keras_lean()
import keras
loaded = sorted({"IPython", "jax", "matplotlib", "pandas", "sklearn"}.intersection(sys.modules))
import matplotlib, pandas, sklearn.linear_model
assert keras.saving.get_registered_object("kerasxfer>Preprocess")
print(json.dumps([loaded, list(keras.layers.Dense(1)(keras.ops.ones((2, 3))).shape), repr(keras.__spec__.loader)]))
"""


def test_keras_comes_without_its_conveniences_which_can_be_imported_later():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded, shape, loader = json.loads(done.stdout.splitlines()[-1])
    assert loaded == (["jax"] if keras.backend.backend() == "jax" else [])
    assert shape == [2, 1]
    assert "SourceFileLoader" in loader
