"""A model card: what a model is, was made of and reaches, as the README.md that the Hugging Face Hub reads."""

from pathlib import Path
from typing import TYPE_CHECKING

from kerasxfer_serving import Predictor
from kerasxfer_serving.benchmarking.report import Report
from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.files import write_atomically, writing

from kerasxfer.export.card_sections import Known, sections
from kerasxfer.export.errors import ExportError
from kerasxfer.export.report import Exported
from kerasxfer.report.predictions import validation_images
from kerasxfer.report.runs import Run, load_runs
from kerasxfer.runs.run_folder import RunFolder, RunState

if TYPE_CHECKING:
    from kerasxfer.multi_label.figures import LabelEvaluation
    from kerasxfer.report.metrics import Evaluation

NAME = "README.md"

_MARK = "<!-- kerasxfer export --card -->"


def card_path(file: str | Path) -> Path:
    """Where the card of a model file belongs: `README.md` beside it.

    Args:
        file: The model file.

    Raises:
        ExportError: A `README.md` is there that is no card of ours.
    """
    path = Path(file).parent / NAME
    if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise ExportError(
            f"`{path}` is not a model card written by kerasxfer, so it is kept: move it, or export elsewhere."
        )
    return path


def write_card(exported: Exported, run: str | Path | None = None) -> Path:
    """Write the model card of an exported file beside it.

    Accuracy and calibration are those of the exported file on the images that the run was validated on. Speed comes
    from `bench.json` beside the file, where `kerasxfer benchmark` measured this very file.

    Args:
        exported: What `kerasxfer.export_onnx` returned.
        run: The run folder that the model comes from. Defaults to `None`: the card says nothing about its training.

    Returns:
        The card: `README.md` beside the file.

    Raises:
        ExportError: A `README.md` is there that is no card of ours.
        KerasxferError: The packages for reports are missing.

    Example:

    ```python
    from kerasxfer.export.card import write_card

    exported = kerasxfer.export_onnx(model, "model.onnx", verbose=False)
    print(write_card(exported).read_text())
    ```
    """
    path = card_path(exported.file.path)
    found = _run(run)
    known = Known(exported, found, _evaluate(found, exported) if found else None, _benchmark(exported))
    with writing(path):
        write_atomically(path, "\n\n".join([*sections(known), f"{_MARK}\n"]))
    return path


def _run(folder: str | Path | None) -> Run | None:
    """The run that a folder, or the model file in it, belongs to."""
    if folder is None:
        return None
    path = Path(folder)
    owner = RunFolder(path if path.is_dir() else path.parent)
    if owner.state in (None, RunState.begun) or path not in (owner.path, owner.model):
        return None
    (run,) = load_runs([owner.path])
    return run


def _evaluate(run: Run, exported: Exported) -> "Evaluation | LabelEvaluation | None":
    """The figures of the exported file on the validation images; `None` where there are none."""
    try:
        from kerasxfer.report.evaluation import evaluate_run
    except ModuleNotFoundError as error:
        raise KerasxferError(f'The card needs `{error.name}`. Run: pip install "kerasxfer[report]"') from None
    images = validation_images(run)
    if images is None:
        return None
    with Predictor(exported.file.path) as predictor:
        predictions = predictor.predict([str(Path(images.root) / path) for path in images.paths])
    answered = predictions.ok
    probabilities = predictions.probabilities[answered].astype("float64")
    return evaluate_run(run, images.labels[answered], probabilities, exported.manifest.thresholds)


def _benchmark(exported: Exported) -> Report | None:
    """What was measured of this very file."""
    path = RunFolder(exported.file.path.parent).benchmark
    report = Report.read(path) if path.is_file() else None
    return report if report and report.model.get("sha256") == exported.file.sha256 else None
