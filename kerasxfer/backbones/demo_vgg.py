"""`DemoVGG`: VGG16's layout, narrow, with weights small enough to travel inside the package."""

from pathlib import Path
from typing import Any

import keras
from kerasxfer_serving.errors import UsageError

from kerasxfer.types import Tensor

WEIGHTS = Path(__file__).parent / "demo_vgg.weights.h5"

_CHANNELS = (16, 32, 48, 64, 96)
_CONVOLUTIONS = (2, 2, 3, 3, 3)


def DemoVGG(  # noqa: N802
    include_top: bool = False,
    weights: str | Path | None = "demo",
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    name: str = "demo_vgg",
) -> keras.Model:
    """VGG16's layout and layer names in a quarter of a million parameters, for demos and tests without a download.

    Its weights were not trained on ImageNet. They come from drawn shapes (`kerasxfer.demo.images.SOURCE_CLASSES`) and
    know edges, corners and outlines, not photographs: use a `keras.applications` model for real images. From VGG16 it
    differs in width (16, 32, 48, 64 and 96 channels) and in a batch normalisation after each convolution, named
    `block1_conv1_bn` and so on. Inputs are scaled as by `preprocess_input`.

    Args:
        include_top: Must be `False`: there is no classifier to include. Defaults to `False`.
        weights: `"demo"` for the weights in the package, the path of a `.weights.h5` file, or `None` for random ones.
            Defaults to `"demo"`.
        input_tensor: Keras tensor to use as the input. Defaults to `None`.
        input_shape: Shape of an image, at least 32 by 32. Defaults to `None`: any size.
        pooling: `None`, `"avg"` or `"max"`: how to pool the last block's output. Defaults to `None`.
        name: Name of the model. Defaults to `"demo_vgg"`.

    Returns:
        A functional `keras.Model` with VGG16's layer names, `block1_conv1` to `block5_pool`.

    Raises:
        ValueError: If an argument has none of the values above.

    Example:
    >>> DemoVGG(input_shape=(64, 64, 3)).output_shape
    (None, 2, 2, 96)
    """
    if include_top:
        raise UsageError("`include_top` must be `False`: DemoVGG has no classifier. Received: include_top=True")
    if pooling not in (None, "avg", "max"):
        raise UsageError(f"`pooling` must be `None`, 'avg' or 'max'. Received: pooling={pooling!r}")
    inputs = _input(input_tensor, input_shape)
    x = inputs
    for block, (channels, convolutions) in enumerate(zip(_CHANNELS, _CONVOLUTIONS, strict=True), start=1):
        x = _block(x, f"block{block}", channels, convolutions)
    if pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D()(x)
    elif pooling == "max":
        x = keras.layers.GlobalMaxPooling2D()(x)
    model = keras.Model(inputs, x, name=name)
    if weights is not None:
        model.load_weights(_weights_file(weights))
    return model


def preprocess_input(x: Tensor) -> Tensor:
    """Scale RGB pixels from 0–255 to -1–1, as `keras.applications.mobilenet_v2.preprocess_input` does.

    Args:
        x: Array or tensor of pixels.

    Returns:
        `x / 127.5 - 1`.
    """
    return x / 127.5 - 1.0


def _input(tensor: Any, shape: tuple[int | None, int | None, int] | None) -> Any:
    if tensor is not None:
        return tensor
    if shape is None:
        channels_first = keras.config.image_data_format() == "channels_first"
        shape = (3, None, None) if channels_first else (None, None, 3)  # type: ignore[assignment]
    return keras.Input(shape)


def _block(x: Tensor, name: str, channels: int, convolutions: int) -> Any:
    axis = 1 if keras.config.image_data_format() == "channels_first" else -1
    for number in range(1, convolutions + 1):
        layer = f"{name}_conv{number}"
        x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False, name=layer)(x)
        x = keras.layers.BatchNormalization(axis, momentum=0.9, name=f"{layer}_bn")(x)
        x = keras.layers.ReLU(name=f"{layer}_relu")(x)
    return keras.layers.MaxPooling2D(2, name=f"{name}_pool")(x)


def _weights_file(weights: str | Path) -> Path:
    path = WEIGHTS if weights == "demo" else Path(weights)
    if not path.is_file():
        raise UsageError(
            "`weights` must be 'demo', `None` or the path of an existing `.weights.h5` file. "
            f"Received: weights={weights!r}"
        )
    return path
