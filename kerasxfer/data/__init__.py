"""Images on disk as batches: class folders and tables, the files in them, decoding ahead, and splits."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasxfer.data.image_folder import ImageFolder as ImageFolder
    from kerasxfer.data.image_table import ImageTable as ImageTable

_HOME = {"ImageFolder": "image_folder", "ImageTable": "image_table"}

__all__ = ["ImageFolder", "ImageTable"]


def __getattr__(name: str) -> Any:
    # `kerasxfer split` walks folders without importing Keras.
    if name not in _HOME:
        raise AttributeError(f"module 'kerasxfer.data' has no attribute {name!r}")
    return getattr(import_module(f"kerasxfer.data.{_HOME[name]}"), name)
