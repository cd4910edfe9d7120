"""The proof of a file: images, what the Keras model says to them, and that the file says the same."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from kerasxfer_serving.errors import ImageError, ModelError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.runtime.session import Session
from numpy.typing import NDArray
from PIL import Image

from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.opening import image_paths
from kerasxfer.data.tables.columns import NOTHING_SAID, TableOptions
from kerasxfer.data.tables.source import is_table
from kerasxfer.export.answers import answers, answers_in_every_batch, open_file, own_answers, reference_model
from kerasxfer.export.check import compare_on
from kerasxfer.export.description import ImageInput
from kerasxfer.export.errors import ExportError
from kerasxfer.export.outputs import Output, read_output
from kerasxfer.export.parity import GATES, UNLABELLED_INT8, Gate, Parity, compare_answers
from kerasxfer.export.source import Source

_IMAGES = 32
_TELLS_APART = 1e-3


@dataclass(frozen=True)
class Samples:
    """Decoded and resized images with their names: uint8 `[n, height, width, 3]`."""

    names: tuple[str, ...]
    images: NDArray[np.uint8]


def choose_samples(
    images: str | Path | None,
    count: int,
    image_size: tuple[int, int],
    policy: ImagePolicy,
    seed: int = 0,
    table: TableOptions = NOTHING_SAID,
) -> Samples:
    """A seeded choice of the images in a folder or table, or drawn ones.

    Args:
        images: A folder of images, with or without class folders, a table, or `None` for drawn images.
        count: How many at most. Unreadable images are passed over.
        image_size: `(height, width)`.
        policy: How to decode and resize.
        seed: Which ones. Defaults to `0`.
        table: What is said about the table. Defaults to nothing.

    Returns:
        `Samples`.

    Raises:
        ExportError: There is no readable image.
    """
    sources = _drawn(count, seed) if images is None else _found(Path(images), table, seed)
    names: list[str] = []
    decoded: list[NDArray[np.uint8]] = []
    for name, source in sources:
        if len(decoded) == count:
            break
        try:
            decoded.append(policy.load(source, image_size))
        except ImageError:
            continue
        names.append(name)
    if not decoded:
        raise ExportError(f"A folder of images is needed. Received: `{images}`, without a readable image.")
    return Samples(tuple(names), np.stack(decoded))


def _found(place: Path, table: TableOptions, seed: int) -> Iterator[tuple[str, Path]]:
    if not place.is_dir() and not is_table(place):
        raise ExportError(f"The folder `{place}` does not exist.")
    root, paths = image_paths(place, table)
    for position in np.random.default_rng(seed).permutation(len(paths)):
        yield paths[position], root / paths[position]


def _drawn(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """JPEG files of soft patches of colour under fine grain: both low and high frequencies, no two alike."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        coarse = rng.integers(0, 256, (rng.integers(2, 9), rng.integers(2, 9), 3), np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC), np.int16)
        grain = rng.normal(0, rng.uniform(1, 30), image.shape)
        file = io.BytesIO()
        Image.fromarray(np.clip(image + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        yield f"drawn image {number}", file.getvalue()


@dataclass(frozen=True)
class Proof:
    """The model, and what it says to a few images: what every file made of it must say too.

    Args:
        model: The model to compare with.
        output: What its outputs mean.
        samples: The images.
        probabilities: What the model says to them.
        preprocessing: Mode of `Preprocess` that stands before the model, or `None`.
    """

    model: keras.Model
    output: Output
    samples: Samples
    probabilities: NDArray[Any]
    preprocessing: str | None

    @classmethod
    def ask(
        cls,
        source: Source,
        entry: ImageInput,
        images: str | Path | None,
        said: str | None,
        table: TableOptions = NOTHING_SAID,
        *,
        multi_label: bool,
    ) -> "Proof":
        """Let the model of `source` answer to some of `images`, or to drawn ones.

        Args:
            source: The opened model.
            entry: How images become its input.
            images: A folder or table of images, or `None`.
            said: What the user says that the model's outputs are, or `None`.
            table: What is said about a table. Defaults to nothing.
            multi_label: Whether any number of classes may fit an image.
        """
        samples = choose_samples(images, _IMAGES, entry.image_size, entry.policy, table=table)
        model = reference_model(source)
        outputs = own_answers(model, samples.images, entry.preprocessing)
        output = read_output(source.model, source.loss, outputs, said, multi_label=multi_label)
        return cls(model, output, samples, output.probabilities(outputs), entry.preprocessing)

    @property
    def columns(self) -> int:
        """Number of the outputs' columns."""
        return int(self.probabilities.shape[1])

    def compare(self, proto: onnx.ModelProto, manifest: Manifest) -> Parity:
        """The parity on the few images, in every kind of batch.

        Raises:
            ExportError: If the file does not run, or its answers are not the model's.
        """
        rows, received = answers_in_every_batch(open_converted(proto), self.samples.images)
        names = [self.samples.names[row] for row in rows]
        parity = compare_answers(
            self.probabilities[rows], received, names, manifest.class_names, thresholds=manifest.thresholds
        )
        return _passed(parity, manifest, GATES[manifest.precision])

    def check(
        self, proto: onnx.ModelProto, manifest: Manifest, labelled: ImageDataset, others: Sequence[Session] = ()
    ) -> tuple[Parity, list[Parity]]:
        """The parity on all labelled images, with both scores; an error as in `compare`.

        Args:
            proto: The file.
            manifest: Its manifest.
            labelled: The images.
            others: Other sessions of the same file, which may fail.

        Returns:
            The parity, and that in each of the others.
        """
        parity, *rest = compare_on(
            labelled,
            self.model,
            [partial(answers, session) for session in (open_converted(proto), *others)],
            probabilities=self.output.probabilities,
            manifest=manifest,
        )
        return _passed(parity, manifest, GATES[manifest.precision]), rest

    def check_unlabelled(self, proto: onnx.ModelProto, manifest: Manifest, samples: Samples) -> Parity:
        """The parity of an int8 file on images without labels: how many answers stay; an error as in `compare`."""
        outputs = own_answers(self.model, samples.images, self.preprocessing)
        received = answers(open_converted(proto), samples.images)
        parity = compare_answers(
            self.output.probabilities(outputs),
            received,
            samples.names,
            manifest.class_names,
            thresholds=manifest.thresholds,
        )
        return _passed(parity, manifest, UNLABELLED_INT8)

    def notes(self) -> Iterator[str]:
        """What a person should know about the comparison."""
        if self.output.inferred:
            yield self.output.inferred
        if np.ptp(self.probabilities, axis=0).max() < _TELLS_APART:
            yield "The model answers nearly the same for all images, so the comparison proves little: use `samples=`."


def open_converted(proto: onnx.ModelProto) -> Session:
    """A session of a converted graph; a converter writes operators that ONNX does not have.

    Raises:
        ExportError: If ONNX Runtime refuses the graph.
    """
    try:
        return open_file(proto.SerializeToString())
    except ModelError as error:
        raise ExportError(f"The converted file does not run. {error}") from error


def _passed(parity: Parity, manifest: Manifest, gate: Gate) -> Parity:
    if failure := parity.failure(gate):
        raise ExportError(f"The {manifest.precision} file does not give the model's answers. {failure}")
    return parity
