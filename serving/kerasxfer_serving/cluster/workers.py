"""What runs on the machines of a cluster: a task that decodes, and an actor that holds a predictor.

Neither knows of Ray: they are a function and a class, which `ray_engine` and `ray_pool` send out.
"""

import hashlib
import os
import platform
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import DecodedImage, ImagePolicy
from kerasxfer_serving.inputs.input import Input, decode_input
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.predictor import Predictor, PredictorArguments

Decoded = DecodedImage | ImageError


class Receipt(NamedTuple):
    """What is to be known about decoded images without fetching them.

    Args:
        seconds: It took.
        node: Ray's number of the machine.
        machine: Its name.
        decoder: Hash of the golden images' pixels: machines that differ in it decode differently.
        all_missing: Whether not one file was found.
    """

    seconds: float
    node: str
    machine: str
    decoder: str
    all_missing: bool


class Opened(NamedTuple):
    """What a predictor says when it is ready.

    Args:
        node: Ray's number of the machine.
        description: `Predictor.describe`.
        session: `Session.describe`.
        seconds: It took.
    """

    node: str
    description: dict[str, Any]
    session: dict[str, Any]
    seconds: float


def decode(items: list[Input], manifest: Manifest, folder: str) -> tuple[list[Decoded], Receipt]:
    """Decode images.

    Args:
        items: The inputs.
        manifest: How, and to which size.
        folder: Where relative paths start.

    Returns:
        The images, and a `Receipt`.
    """
    with suppress(OSError):  # a machine without the folder: its relative paths are missing, and the receipt says so
        os.chdir(folder)
    started = time.perf_counter()
    images = [decode_input(item, manifest.policy, manifest.image_size) for item in items]
    seconds = time.perf_counter() - started
    missing = all(isinstance(image, ImageError) and image.code == "not_found" for image in images)
    return images, Receipt(seconds, _node(), platform.node(), decoder_hash(manifest), missing)


class PredictorWorker:
    """A predictor in a process of its own."""

    def open(self, name: str, model: bytes, arguments: PredictorArguments, tune: bool) -> Opened:
        """Make the predictor.

        Args:
            name: Of the model file, for messages.
            model: The file's bytes: other machines need not have it.
            arguments: Of `Predictor`.
            tune: Measure the best batch size.
        """
        from kerasxfer_serving.runtime.tuning import best_batch_size

        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(model)
            self._predictor = Predictor(path, **arguments)
        if tune:
            best_batch_size(self._predictor)
        session = self._predictor.session.describe()
        return Opened(_node(), self._predictor.describe(), session, time.perf_counter() - started)

    def predict(self, paths: list[str], *pieces: list[Decoded]) -> Predictions:
        """Answers to decoded images, batch by batch."""
        images = [image for piece in pieces for image in piece]
        size, threads = self._predictor.batch_size, self._predictor.stream_threads
        return Predictions.concatenate(
            [
                self._predictor.predict_decoded(
                    paths[start : start + size], images[start : start + size], threads=threads
                )
                for start in range(0, len(paths), size)
            ]
        )


def decoder_hash(manifest: Manifest) -> str:
    """Hash of the golden images' pixels, as this machine decodes them."""
    return _decoder_hash(manifest.image_size, manifest.policy)


@cache
def _decoder_hash(size: tuple[int, int], policy: ImagePolicy) -> str:
    from kerasxfer_serving.golden import golden_hashes

    return hashlib.sha256(repr(sorted(golden_hashes(size, policy).items())).encode()).hexdigest()


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())
