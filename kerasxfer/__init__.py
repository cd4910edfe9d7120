"""Transfer learning for Keras 3: progressive unfreezing, cached activations, verified ONNX export.

`import kerasxfer` registers the layers so that `keras.saving.load_model` finds them. Everything else, including Keras,
is imported on first use, so `kerasxfer --help` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kerasxfer_serving import __version__

from kerasxfer.registration import register_with_keras

if TYPE_CHECKING:
    from kerasxfer import callbacks as callbacks
    from kerasxfer import layers as layers
    from kerasxfer.auditing.audit import audit as audit
    from kerasxfer.bottleneck.boundary import split_at_boundary as split_at_boundary
    from kerasxfer.bottleneck.cache import BottleneckCache as BottleneckCache
    from kerasxfer.choosing.choice import choose as choose
    from kerasxfer.choosing.cross_validation import cross_validate as cross_validate
    from kerasxfer.data.image_folder import ImageFolder as ImageFolder
    from kerasxfer.data.image_table import ImageTable as ImageTable
    from kerasxfer.export.pipeline import export_onnx as export_onnx
    from kerasxfer.models import image_classifier as image_classifier
    from kerasxfer.plots import plot_history as plot_history
    from kerasxfer.unfreezing.groups import layer_groups as layer_groups
    from kerasxfer.unfreezing.stages import Stage as Stage

_HOME = {
    "BottleneckCache": "bottleneck.cache",
    "ImageFolder": "data.image_folder",
    "ImageTable": "data.image_table",
    "Stage": "unfreezing.stages",
    "audit": "auditing.audit",
    "choose": "choosing.choice",
    "cross_validate": "choosing.cross_validation",
    "export_onnx": "export.pipeline",
    "image_classifier": "models",
    "layer_groups": "unfreezing.groups",
    "plot_history": "plots",
    "split_at_boundary": "bottleneck.boundary",
}

__all__ = [
    "BottleneckCache",
    "ImageFolder",
    "ImageTable",
    "Stage",
    "__version__",
    "audit",
    "callbacks",
    "choose",
    "cross_validate",
    "export_onnx",
    "image_classifier",
    "layer_groups",
    "layers",
    "plot_history",
    "split_at_boundary",
]


def __getattr__(name: str) -> Any:
    if name in ("callbacks", "layers"):
        return import_module(f"kerasxfer.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'kerasxfer' has no attribute {name!r}")
    value = getattr(import_module(f"kerasxfer.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


register_with_keras()
