"""What a model has done, in the terms of the inference protocol's statistics extension."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

_STEPS = {"queue": "queue", "decode": "compute_input", "model": "compute_infer"}


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
