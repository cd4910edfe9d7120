"""The package's layers are known to `load_model`, however the package came to be imported."""

import subprocess
import sys

import pytest

from kerasxfer import image_classifier

LOADS = "import keras; print(type(keras.saving.load_model('model.keras', compile=False)).__name__)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    image_classifier("DemoVGG", ["a", "b"], (32, 32), weights=None).save(folder / "model.keras")
    (folder / "proj").mkdir()
    (folder / "proj" / "__init__.py").write_text("import kerasxfer\n")
    (folder / "proj" / "train.py").write_text(LOADS)
    (folder / "kerasxfer_script.py").write_text(f"import kerasxfer\n{LOADS}")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "proj.train"],
        ["kerasxfer_script.py"],
        ["-c", f"import sys; sys.argv = ['kerasxfer']; import kerasxfer\n{LOADS}"],
        ["-c", f"import keras, kerasxfer\n{LOADS}"],
        ["-c", f"from kerasxfer.backbones.applications import load_backbone\n{LOADS}"],
        ["-c", f"import kerasxfer; kerasxfer.ImageFolder\n{LOADS}"],
        ["-c", f"from kerasxfer.callbacks import ProgressiveUnfreezing\n{LOADS}"],
        ["-c", f"import kerasxfer.pixel_range\n{LOADS}"],
    ],
)
def test_a_model_is_loaded(folder, arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "ImageClassifier", done.stderr


def test_keras_is_not_imported_for_it():
    code = "import sys, kerasxfer; print('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
