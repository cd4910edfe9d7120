"""A benchmark you can quote: four separate rates, proof of the device, spread, and VALID or INVALID with reasons.

The steps: images → one predictor per batch size → decode, device and end-to-end rates → `Report`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from kerasxfer_serving.benchmarking.compare import compare
from kerasxfer_serving.benchmarking.data import open_images
from kerasxfer_serving.benchmarking.measuring import Contention, Measurement, Rules
from kerasxfer_serving.benchmarking.report import Report
from kerasxfer_serving.benchmarking.scenarios import decode_rates, device_rates, offline, single_stream
from kerasxfer_serving.diagnostics.env import environment
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.golden import changed, golden_hashes
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.predictor import Predictor, PredictorArguments

__all__ = ["Measurement", "Report", "Rules", "benchmark", "compare"]

_LONGEST = 3600
SCENARIOS = ("offline", "single-stream")
_BATCH_SIZES_ON_CPU = (1, 8, 32)
_BATCH_SIZES_ON_GPU = (1, 8, 32, 128)


def benchmark(
    model: str | Path,
    data: str | Path | None = None,
    *,
    batch_sizes: Sequence[int] | None = None,
    scenarios: Sequence[str] = SCENARIOS,
    duration: float = 10.0,
    rules: Rules | None = None,
    limit: int = 2000,
    picture_size: tuple[int, int] = (375, 500),
    progress: Callable[[str], None] = lambda text: None,
    **predictor: Unpack[PredictorArguments],
) -> Report:
    """Measure a model on this machine.

    Args:
        model: An `.onnx` file.
        data: Folder of images; if its subfolders are named after the classes, the accuracy is reported too. Defaults to
            `None`: synthetic images.
        batch_sizes: Batch sizes to measure. Defaults to 1, 8 and 32, and 128 on a GPU; a model with a fixed batch size
            has only that one.
        scenarios: `"offline"`, `"single-stream"` or both, MLPerf's names. Defaults to both.
        duration: Seconds to measure each figure for, over three repeats. Defaults to 10.
        rules: Rules for a valid figure. Defaults to `Rules()`.
        limit: Number of images of `data` to use, chosen at random. Defaults to 2000.
        picture_size: `(height, width)` of synthetic images. Defaults to `(375, 500)`.
        progress: Called with one line before each step.
        **predictor: Arguments of `Predictor`, such as `device`. Use `batch_sizes` instead of its `batch_size`.

    Returns:
        A `Report`.

    Raises:
        UsageError: A scenario that does not exist, or data without images.
        DeviceError: The device is not available.
        ModelError: The model is refused.

    Example:

    ```python
    report = benchmark("model.onnx", "photos/", batch_sizes=(1, 32))
    report.summary["end_to_end"]   # images a second
    report.valid, report.reasons
    ```
    """
    if unknown := sorted(set(scenarios) - set(SCENARIOS)):
        raise UsageError(f"`scenarios` must be of {SCENARIOS}. Received: {unknown}")
    if not 0 < duration <= _LONGEST:
        raise UsageError(f"`duration` must be seconds, at most {_LONGEST:,}. Received: duration={duration}")
    rules = rules or Rules()
    created, contention = datetime.now(UTC).isoformat(timespec="seconds"), Contention()
    sessions: list[dict[str, Any]] = []
    measurements: list[Measurement] = []

    def add(*found: Measurement) -> None:
        for measurement in found:
            measurements.append(measurement)
            progress(f"{measurement.label}: {measurement.rate:,.1f} images/s")

    single = _open(model, sessions, predictor | {"batch_size": 1})
    with open_images(data, limit, picture_size) as images:
        add(*decode_rates(images, single, duration, rules))
        if "single-stream" in scenarios:
            add(single_stream(single, images, duration, rules))
        if "offline" in scenarios:
            for size in _sweep(single, batch_sizes):
                same = size == single.batch_size
                batched = single if same else _open(model, sessions, predictor | {"batch_size": size})
                add(*device_rates(batched, duration, rules), offline(batched, images, duration, rules))
        return Report(
            model=_describe_model(model, single),
            preprocessing=_describe_preprocessing(single.manifest),
            data=images.describe(),
            device=single.session.describe() | {"stream_threads": single.stream_threads, "workers": single.workers},
            settings={
                "device": predictor.get("device", "auto"),
                "scenarios": list(scenarios),
                "duration": duration,
                "rules": asdict(rules),
            },
            sessions=sessions,
            measurements=measurements,
            # A folder's name is one label, and says nothing of the others.
            accuracy=None if single.manifest.is_multi_label else images.accuracy(single.manifest.class_names),
            cores_of_others=contention.cores_of_others(),
            environment=environment(),
            created=created,
        )


def _sweep(predictor: Predictor, batch_sizes: Sequence[int] | None) -> Sequence[int]:
    fixed = predictor.batch_size != 1  # what was asked for is 1: the model has one of its own
    return (
        (predictor.batch_size,)
        if fixed
        else batch_sizes or (_BATCH_SIZES_ON_CPU if predictor.on_cpu else _BATCH_SIZES_ON_GPU)
    )


def _open(model: str | Path, sessions: list[dict[str, Any]], arguments: PredictorArguments) -> Predictor:
    """A predictor, with the seconds of making it and of its first run."""
    start = time.perf_counter()
    predictor = Predictor(model, **arguments)
    ready = time.perf_counter()
    predictor.run(np.zeros((predictor.batch_size, *predictor.manifest.image_size, 3), np.uint8))
    ran = time.perf_counter()
    timing = {"batch_size": predictor.batch_size, "session_seconds": ready - start, "first_run_seconds": ran - ready}
    if predictor.device == "tensorrt" and arguments.get("cache_dir"):  # a second session takes the engine from there
        Predictor(model, **arguments).close()
        timing["engine_build_seconds"] = max(0.0, (ready - start) - (time.perf_counter() - ran))
    sessions.append(timing)
    return predictor


def _describe_model(path: str | Path, predictor: Predictor) -> dict[str, Any]:
    manifest = predictor.manifest
    names = ("backbone", "precision", "opset", "output", "parity", "source_backend", "source_sha256")
    return {
        "name": Path(path).name,
        "sha256": predictor.sha256,
        "bytes": Path(path).stat().st_size,
        "image_size": list(manifest.image_size),
        "classes": len(manifest.class_names),
        **{name: getattr(manifest, name) for name in names},
    }


def _describe_preprocessing(manifest: Manifest) -> dict[str, Any]:
    return {
        "policy": manifest.policy.to_dict(),
        "golden": golden_hashes(manifest.image_size, manifest.policy),
        "changed": changed(manifest),
    }
