"""KerasHub's image backbones: presets by name, and transformers laid out layer by layer."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import UsageError

from kerasxfer.backbones.applications import WeightsError
from kerasxfer.layers.preprocess import MODES, Preprocess

PREFIX = "hub:"


_NOT_TAKEN_BACK = {
    "ViTPatchingAndEmbedding": ("num_patches", "num_positions"),
    "ViTEncoderBlock": ("key_dim",),
}


def load_preset(name: str, image_size: tuple[int, int], *, load_weights: bool) -> tuple[keras.Model, str | None]:
    """A backbone of KerasHub by the name of its preset, through KerasHub's own loader.

    Args:
        name: The preset, as `"resnet_50_imagenet"`, `"kaggle://…"` or `"hf://…"`.
        image_size: `(height, width)`.
        load_weights: Whether to load the weights too.

    Returns:
        The backbone, and the mode of `Preprocess` that does what its preset does to pixels, or `None`.

    Raises:
        UsageError: If KerasHub is not installed.
        WeightsError: If the preset is not on this machine and cannot be downloaded, or is no image backbone.
    """
    try:
        import keras_hub
    except ImportError as error:
        raise UsageError(
            f'`backbone="{PREFIX}…"` needs KerasHub: `pip install "kerasxfer[hub]"`. Received: {error}'
        ) from error
    try:
        backbone = keras_hub.models.Backbone.from_preset(name, load_weights=load_weights, image_shape=(*image_size, 3))
        converter = keras_hub.layers.ImageConverter.from_preset(name)
    except Exception as error:  # KerasHub, Kaggle and Hugging Face each raise their own
        raise WeightsError(
            f"KerasHub cannot load the preset '{name}': {' '.join(str(error).split())[:500]}\nA preset that is not on "
            "this machine needs a connection. Otherwise download it elsewhere and give the path of its folder, or "
            "build a backbone of `keras_hub.models` and give that as `backbone=`."
        ) from error
    return backbone, _mode_of(converter.scale, converter.offset)


def parts_of(layer: keras.Layer) -> Sequence[Any] | None:
    """The layers that a transformer's encoder calls one after another, or `None` for any other layer.

    A graph is cut, cached and unfrozen at its layers; an encoder in one piece could only be taken as a whole.
    """
    if type(layer).__module__.partition(".")[0] != "keras_hub":
        return None
    match type(layer).__name__:
        case "ViTEncoder":
            return [layer.dropout, *layer.encoder_layers, layer.layer_norm]
        case "DINOV2Encoder":
            return list(layer.layers)
    return None


def takeable_config(layer_class: str, config: dict[str, Any]) -> dict[str, Any]:
    """A layer's configuration as its own `__init__` takes it: some of KerasHub's give more than they take back."""
    untaken = _NOT_TAKEN_BACK.get(layer_class, ())
    return {key: value for key, value in config.items() if key not in untaken}


def returns_pyramid(layer: keras.Layer) -> bool:
    """Whether an encoder gives its last output with those of all its layers."""
    return type(layer).__name__ == "DINOV2Encoder"


def _mode_of(scale: Any, offset: Any) -> str | None:
    """The mode whose arithmetic is `pixels * scale + offset`."""
    pixels = np.repeat(np.array([0, 128, 255], "float32"), 3).reshape(1, 3, 1, 3)
    expected = pixels * (1.0 if scale is None else np.array(scale)) + (0.0 if offset is None else np.array(offset))
    for mode in MODES:
        if np.allclose(keras.ops.convert_to_numpy(Preprocess(mode)(pixels)), expected, atol=1e-2):
            return mode
    return None
