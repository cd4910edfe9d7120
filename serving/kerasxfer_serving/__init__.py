"""Batch prediction with image classifiers in ONNX Runtime, without a deep-learning framework.

Nothing heavy is imported until a name is used, so `kerasxfer-serving --help` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasxfer_serving.benchmarking import benchmark as benchmark
    from kerasxfer_serving.images import ImagePolicy as ImagePolicy
    from kerasxfer_serving.model.manifest import Manifest as Manifest
    from kerasxfer_serving.predictor import Predictor as Predictor

__version__ = "0.1.0"

_HOME = {
    "ImagePolicy": "images",
    "Manifest": "model.manifest",
    "Predictor": "predictor",
    "benchmark": "benchmarking",
}

__all__ = ["ImagePolicy", "Manifest", "Predictor", "__version__", "benchmark"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kerasxfer_serving' has no attribute {name!r}")
    value = getattr(import_module(f"kerasxfer_serving.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
