"""One version of a model, open, warm and ready to answer, and what it has answered."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.golden import changed
from kerasxfer_serving.image_io.decoding import Source
from kerasxfer_serving.images import DecodedImage
from kerasxfer_serving.inputs.input import decode_input, given_input
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.predictor import Predictor
from kerasxfer_serving.server.engine import BatchPolicy
from kerasxfer_serving.server.options import ServerOptions

_LOG = logging.getLogger(__name__)
_CPU_BATCH = 8
_GPU_BATCH = 128
_GPU_BUCKETS = (1, 8, 32, 128)
"""A GPU sees few shapes, since it searches its algorithms anew for each; a batch is padded to the next of them."""
_RUNS_AT_ONCE = 2  # per GPU: one uploads while the other computes
_STEPS = {"queue": "queue", "decode": "compute_input", "model": "compute_infer"}


class ServedModel:
    """A model that answers requests.

    Args:
        name: What clients call it.
        version: The version they may ask for.
        predictors: The model, open, by the largest batch that each takes.
        max_pixels: See `ImagePolicy`.
    """

    def __init__(self, name: str, version: str, predictors: dict[int, Predictor], max_pixels: int | None) -> None:
        self.name = name
        self.version = version
        self._predictors = dict(sorted(predictors.items()))
        policy = replace(self.manifest.policy, max_pixels=max_pixels)
        self._decoding = replace(self.manifest, policy=policy)
        self._jobs = 0
        self._closed = False
        self._unused = threading.Condition()
        self.statistics = Statistics()

    @property
    def predictor(self) -> Predictor:
        """The model in its largest batch."""
        return self._predictors[max(self._predictors)]

    @property
    def manifest(self) -> Manifest:
        """What the model says about itself."""
        return self.predictor.manifest

    @property
    def max_batch(self) -> int:
        """Most images in one run."""
        return max(self._predictors)

    def decode(self, source: Source) -> DecodedImage | ImageError:
        """Pixels of one image at the model's size, or what is wrong with it."""
        return decode_input(given_input("", source), self._decoding.policy, self._decoding.image_size)

    def run(self, paths: list[str], images: Sequence[DecodedImage | ImageError]) -> Predictions:
        """Answers to one batch, of at most `max_batch` images."""
        bucket = next(size for size in self._predictors if size >= len(images))
        return self._predictors[bucket].predict_decoded(paths, images, threads=1)

    def warm_up(self) -> None:
        """Decode known images and run every batch size once, so that no client waits for what happens only once."""
        if differing := changed(self.manifest):
            _LOG.warning(
                "%s: this machine decodes %s unlike the one that exported the model.",
                self.name,
                ", ".join(differing),
            )
        height, width = self.manifest.image_size
        for size, predictor in self._predictors.items():
            for count in {1, size}:
                predictor.run(np.zeros((count, height, width, 3), np.uint8), threads=1)

    def begin(self) -> bool:
        """Begin a request that must end before the model is closed; `False` where it is closed already."""
        with self._unused:
            self._jobs += not self._closed
            return not self._closed

    def end(self) -> None:
        """A request that began has ended."""
        with self._unused:
            self._jobs -= 1
            self._unused.notify_all()

    def drain(self, timeout: float) -> bool:
        """Wait until no request uses the model, then close it; whether that came to pass in `timeout` seconds."""
        with self._unused:
            free = self._unused.wait_for(lambda: self._jobs == 0, timeout)
            self._closed = True
        for predictor in self._predictors.values():
            predictor.close()
        return free


def open_model(name: str, version: str, path: str | Path, options: ServerOptions) -> ServedModel:
    """Load, check and warm a model file.

    Raises:
        ModelError: The file is refused.
        DeviceError: The device is not available.
    """
    first = Predictor(
        path,
        device=options.device,
        cpu_precision=options.cpu_precision,
        threads=1,
        batch_size=options.max_batch or _GPU_BATCH,
    )
    if first.on_cpu:
        predictors = {first.session.fixed_batch or options.max_batch or _CPU_BATCH: first}
    else:
        buckets = [size for size in _GPU_BUCKETS if size < first.batch_size]
        predictors = {first.batch_size: first} | {
            size: Predictor(path, device=first.device, threads=1, batch_size=size, sha256=first.sha256)
            for size in buckets
        }
    model = ServedModel(name, version, predictors, options.max_pixels)
    model.warm_up()
    return model


def batch_policy(models: Sequence[ServedModel], options: ServerOptions) -> BatchPolicy:
    """How the engine batches, by the device that the models run on."""
    gpus = [model.predictor for model in models if not model.predictor.on_cpu]
    if gpus:
        return BatchPolicy(_RUNS_AT_ONCE * len(gpus[0].gpu_ids), options.batch_delay)
    return BatchPolicy(options.cores)


class Statistics:
    """Counts of requests, images and runs of one model. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0.0
        self._images = 0
        self._runs: Counter[int] = Counter()
        self._run_seconds: Counter[int] = Counter()
        self._requests: dict[str, tuple[int, float]] = {"success": (0, 0.0), "fail": (0, 0.0)}
        self._steps: dict[str, float] = dict.fromkeys(_STEPS, 0.0)

    def add_run(self, images: int, seconds: float) -> None:
        """One run of the model has ended."""
        with self._lock:
            self._runs[images] += 1
            self._run_seconds[images] += round(seconds * 1e9)

    def add_request(self, images: int, seconds: float, steps: Mapping[str, float] | None) -> None:
        """One request has ended; `steps` are the seconds of its parts, `None` for one that failed."""
        outcome = "fail" if steps is None else "success"
        with self._lock:
            count, total = self._requests[outcome]
            self._requests[outcome] = count + 1, total + seconds
            if steps is not None:
                self._last = time.time()
                self._images += images
                for step, value in steps.items():
                    self._steps[step] += value

    def to_dict(self) -> dict[str, Any]:
        """The statistics in the protocol's words; durations in nanoseconds."""
        with self._lock:
            succeeded = self._requests["success"][0]
            durations = {name: _duration(*figures) for name, figures in self._requests.items()}
            steps = {_STEPS[step]: _duration(succeeded, seconds) for step, seconds in self._steps.items()}
            return {
                "last_inference": round(self._last * 1000),
                "inference_count": self._images,
                "execution_count": self._runs.total(),
                "inference_stats": durations | steps | {"compute_output": _duration(succeeded, 0.0)},
                "batch_stats": [
                    {"batch_size": size, "compute_infer": {"count": count, "ns": self._run_seconds[size]}}
                    for size, count in sorted(self._runs.items())
                ],
            }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
