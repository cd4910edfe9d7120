"""What Prometheus is told. With several processes, the figures of all of them, through files that they share."""

import os
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from kerasxfer_serving.server.models import ServedModel

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
_STEPS = ("queue", "decode", "model")


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "kerasxfer_requests", "Requests answered.", ["protocol", "method", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "kerasxfer_request_seconds", "Seconds of a request.", ["protocol"], buckets=_SECONDS, registry=registry
        )
        self.rejected = Counter("kerasxfer_rejected", "Requests turned down, by reason.", ["reason"], registry=registry)
        self.images = Counter(
            "kerasxfer_images", "Images answered: ok, or what is wrong.", ["model", "status"], registry=registry
        )
        self.step_seconds = Histogram(
            "kerasxfer_step_seconds",
            "Seconds that the images of a request spent in a step.",
            ["model", "step"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "kerasxfer_batch_images", "Images in one run of a model.", ["model"], buckets=_BATCHES, registry=registry
        )
        self.waiting = Gauge(
            "kerasxfer_waiting_images",
            "Images accepted and not yet answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.model_loads = Counter(
            "kerasxfer_model_loads", "Times a model was loaded.", ["model", "version", "sha256"], registry=registry
        )

    def loaded(self, model: ServedModel) -> None:
        """Count the loading of a model."""
        self.model_loads.labels(model.name, model.version, model.predictor.sha256).inc()

    def count_answer(self, model: str, status: Sequence[str], seconds: Mapping[str, float]) -> None:
        """Count one answered request: the status of its images, and the seconds of its steps."""
        for code in status:
            self.images.labels(model, code).inc()
        for step in _STEPS:
            self.step_seconds.labels(model, step).observe(seconds[step])

    def render(self) -> bytes:
        """All figures, in Prometheus's text format."""
        if SHARED_FOLDER not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
