"""Images on disk as batches: the class folders, the files in them, decoding ahead, and splits."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasxfer.data.image_folder import ImageFolder as ImageFolder

__all__ = ["ImageFolder"]


def __getattr__(name: str) -> Any:
    # `kerasxfer split` walks folders without importing Keras.
    if name != "ImageFolder":
        raise AttributeError(f"module 'kerasxfer.data' has no attribute {name!r}")
    from kerasxfer.data.image_folder import ImageFolder

    return ImageFolder
