"""How fast the candidates' exported models answer on this machine, in fp32 and int8, files in and answers out."""

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from kerasxfer_serving.benchmarking.interleaved import end_to_end_in_turns
from kerasxfer_serving.benchmarking.measuring import Contention, Measurement
from kerasxfer_serving.inputs.input import as_inputs
from kerasxfer_serving.predictor import Predictor

from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.export.errors import ExportError
from kerasxfer.export.pipeline import export_onnx

PRECISIONS = ("fp32", "int8")
_IMAGES = 256


@dataclass(frozen=True)
class Speed:
    """The exported model of one candidate, measured.

    Args:
        rates: End-to-end rates by precision; one in which the file's answers are not the model's is missing.
        bytes: Size of the file by precision.
        int8_agreement: Share of images that int8 and the model are of one mind about, or `None`.
    """

    rates: Mapping[str, Measurement] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    int8_agreement: float | None = None

    def rate(self, precision: str) -> float | None:
        """Images a second, or `None` where that was not measured."""
        return self.rates[precision].rate if precision in self.rates else None


class SpeedTest:
    """Exports models as they come, and measures them all in the end, in turns.

    Args:
        folder: An empty folder for files.
        duration: Seconds of each figure.

    Attributes:
        notes: Why a model has no file in a precision.
        cores_of_others: Cores that other processes kept busy while rates were measured; `None` before, and where the
            system does not tell.
    """

    def __init__(self, folder: Path, duration: float) -> None:
        self._folder = folder
        self._images = folder / "images"
        self._duration = duration
        self._files: dict[str, dict[str, Path]] = {}
        self._int8_agreement: dict[str, float] = {}
        self.notes: list[str] = []
        self.cores_of_others: float | None = None

    def add(self, name: str, model: keras.Model, images: ImageDataset) -> None:
        """Export a classifier in fp32 and int8, each proved against the model by `export_onnx`.

        Args:
            name: What the model is called.
            model: The classifier.
            images: The images to measure on; some are taken by lot, the same for all models.
        """
        if not self._images.is_dir():
            self._gather(images)
        files = self._files[name] = {}
        for precision in PRECISIONS:
            path = self._folder / f"{len(self._files)}-{precision}.onnx"
            calibration = self._images if precision == "int8" else None
            try:
                exported = export_onnx(
                    model, path, precision=precision, samples=self._images, calibration=calibration, verbose=False
                )
            except ExportError as error:
                self.notes.append(f"{name} has no {precision} file: {error}")
                continue
            files[precision] = path
            if exported.check is not None:
                self._int8_agreement[name] = exported.check.same_answers

    def measure(self) -> dict[str, Speed]:
        """The speed of every model."""
        contention = Contention()
        with ExitStack() as stack:
            predictors = {
                (name, precision): stack.enter_context(Predictor(file))
                for name, files in self._files.items()
                for precision, file in files.items()
            }
            items = as_inputs(sorted(self._images.iterdir()))
            measured = end_to_end_in_turns(predictors, items, duration=self._duration)
        self.cores_of_others = contention.cores_of_others()
        return {
            name: Speed(
                {precision: measured[name, precision] for precision in files},
                {precision: file.stat().st_size for precision, file in files.items()},
                self._int8_agreement.get(name),
            )
            for name, files in self._files.items()
        }

    def _gather(self, images: ImageDataset) -> None:
        """Put images under names that say nothing of their class: int8 is calibrated on them, not checked."""
        self._images.mkdir()
        rows = np.random.default_rng(0).permutation(len(images.paths))[:_IMAGES]
        for number, row in enumerate(rows):
            path = (images.root / images.paths[row]).resolve()
            _link_or_copy(path, self._images / f"{number:05}{path.suffix}")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError:  # Windows lets few people make links
        shutil.copyfile(source, target)
