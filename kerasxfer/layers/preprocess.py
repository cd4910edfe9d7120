"""The `preprocess_input` of every `keras.applications` model, as a layer of the graph."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import keras
from keras import ops
from kerasxfer_serving.errors import UsageError

from kerasxfer.types import Tensor

MODES = ("caffe", "tf", "tf128", "torch", "rescale", "none")

_NORMALISES_ITSELF = "none"
APPLICATION_MODES = {
    **dict.fromkeys(("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152"), "caffe"),
    **dict.fromkeys(("ResNet50V2", "ResNet101V2", "ResNet152V2", "InceptionV3", "InceptionResNetV2"), "tf"),
    **dict.fromkeys(("MobileNet", "MobileNetV2", "NASNetMobile", "NASNetLarge", "Xception", "DemoVGG"), "tf"),
    **dict.fromkeys(("DenseNet121", "DenseNet169", "DenseNet201"), "torch"),
    **dict.fromkeys(("MobileNetV3Small", "MobileNetV3Large"), _NORMALISES_ITSELF),
    **{f"EfficientNetB{size}": _NORMALISES_ITSELF for size in range(8)},
    **{f"EfficientNetV2{size}": _NORMALISES_ITSELF for size in ("B0", "B1", "B2", "B3", "S", "M", "L")},
    **{f"ConvNeXt{size}": _NORMALISES_ITSELF for size in ("Tiny", "Small", "Base", "Large", "XLarge")},
}

# What `include_preprocessing=True` puts into these, for when it is left out.
_OWN_MODES = {
    **dict.fromkeys(("MobileNetV3Small", "MobileNetV3Large"), "tf"),
    **{f"EfficientNetV2{size}": "torch" for size in ("B0", "B1", "B2", "B3")},
    **{f"EfficientNetV2{size}": "tf128" for size in ("S", "M", "L")},
    **{f"ConvNeXt{size}": "torch" for size in ("Tiny", "Small", "Base", "Large", "XLarge")},
}

_BGR_MEAN = (103.939, 116.779, 123.68)
_RGB_MEAN = (0.485, 0.456, 0.406)
_RGB_STD = (0.229, 0.224, 0.225)


def application_name(name: str) -> str:
    """`name` as `keras.applications` spells it; case does not matter.

    Args:
        name: A model of `keras.applications`, or `"DemoVGG"`.

    Returns:
        The exact name, for example `"VGG16"` for `"vgg16"`.

    Raises:
        ValueError: If there is no such model.
    """
    exact = {known.lower(): known for known in APPLICATION_MODES}
    if name.lower() not in exact:
        close = [exact[match] for match in get_close_matches(name.lower(), exact, n=3)]
        hint = (
            f" Did you mean {' or '.join(map(repr, close))}?" if close else f" One of: {', '.join(APPLICATION_MODES)}."
        )
        raise UsageError(f"`backbone` must be the name of a `keras.applications` model. Received: {name!r}.{hint}")
    return exact[name.lower()]


def application_mode(name: str, include_preprocessing: bool = True) -> str:
    """The preprocessing mode that a model of `keras.applications` expects.

    Args:
        name: The model; case does not matter.
        include_preprocessing: Whether a model that can include its own preprocessing does. Defaults to `True`.

    Returns:
        One of `MODES`.

    Raises:
        ValueError: If there is no such model.

    Example:

    ```python
    assert application_mode("MobileNetV3Small") == "none"
    assert application_mode("MobileNetV3Small", include_preprocessing=False) == "tf"
    ```
    """
    name = application_name(name)
    mode = APPLICATION_MODES[name]
    return mode if include_preprocessing else _OWN_MODES.get(name, mode)


def application_preprocess_input(name: str) -> Callable[..., Tensor]:
    """The function `preprocess_input` of an application.

    Args:
        name: A module of `keras.applications` (`"resnet_v2"`), or a model of one, in any case.

    Returns:
        The function.

    Raises:
        ValueError: If there is no such module or model.

    Example:

    ```python
    assert application_preprocess_input("VGG16") is keras.applications.vgg16.preprocess_input
    ```
    """
    modules = [getattr(keras.applications, module) for module in dir(keras.applications)]
    modules = [module for module in modules if hasattr(module, "preprocess_input")]
    found = getattr(keras.applications, name, None)
    if found not in modules:
        found = next((module for module in modules if hasattr(module, _application(name))), None)
    if found is None:
        raise UsageError(f"`keras.applications` has no `preprocess_input` for {name!r}.")
    function: Callable[..., Tensor] = found.preprocess_input
    return function


@keras.saving.register_keras_serializable(package="kerasxfer")
class Preprocess(keras.layers.Layer):
    """Turns 0–255 RGB pixels into the input that a pretrained network was trained on.

    Gives the same numbers as `keras.applications.<module>.preprocess_input`, computed in the graph, so that a saved or
    exported model takes raw pixels. Half-precision policies compute in `float32` and cast the result.

    Args:
        mode: One of
            - `"caffe"`: RGB to BGR, minus the ImageNet mean (VGG, ResNet);
            - `"tf"`: scaled to -1 … 1 (Inception, MobileNet, NASNet, ResNetV2, Xception);
            - `"tf128"`: divided by 128, minus 1 (EfficientNetV2 S, M and L without their own preprocessing);
            - `"torch"`: scaled to 0 … 1, then the ImageNet mean and standard deviation (DenseNet);
            - `"rescale"`: scaled to 0 … 1;
            - `"none"`: only a cast (ConvNeXt, EfficientNet and MobileNetV3 normalise by themselves);

            or the name of a `keras.applications` model, for its mode.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to `keras.config.image_data_format()`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input shape:
        `(batch, height, width, 3)`, integers or floats; with `"channels_first"` `(batch, 3, height, width)`.

    Output shape:
        The input's, in the layer's compute dtype.

    Raises:
        ValueError: If `mode` is neither a mode nor the name of an application.

    Example:

    ```python
    import keras
    import numpy as np
    from kerasxfer.layers import Preprocess

    pixels = np.full((1, 2, 2, 3), 255, "uint8")
    assert float(keras.ops.max(Preprocess("InceptionV3")(pixels))) == 1.0
    ```
    """

    def __init__(self, mode: str, data_format: str | None = None, **kwargs: Any) -> None:
        # Pixels are cast in `call`: autocast would round float pixels to half precision before the mean is taken off.
        super().__init__(autocast=False, **kwargs)
        self.mode = mode if mode in MODES else APPLICATION_MODES[_application_or_mode(mode)]
        self.data_format = data_format or keras.config.image_data_format()

    def call(self, images: Tensor) -> Tensor:
        working = "float32" if self.compute_dtype in ("float16", "bfloat16") else self.compute_dtype
        pixels = ops.cast(images, working)
        return ops.cast(getattr(self, f"_{self.mode}")(pixels), self.compute_dtype)

    def _caffe(self, pixels: Tensor) -> Tensor:
        # `take`, not a slice with step -1: it exports to one Gather.
        return ops.take(pixels, [2, 1, 0], axis=self._channel_axis) - self._per_channel(_BGR_MEAN, pixels)

    def _tf(self, pixels: Tensor) -> Tensor:
        return pixels / 127.5 - 1.0

    def _tf128(self, pixels: Tensor) -> Tensor:
        return pixels / 128.0 - 1.0

    def _torch(self, pixels: Tensor) -> Tensor:
        centred = pixels / 255.0 - self._per_channel(_RGB_MEAN, pixels)
        return centred / self._per_channel(_RGB_STD, pixels)

    def _rescale(self, pixels: Tensor) -> Tensor:
        return pixels / 255.0

    def _none(self, pixels: Tensor) -> Tensor:
        return pixels

    @property
    def _channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else -1

    def _per_channel(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        constant = ops.convert_to_tensor(values, dtype=like.dtype)
        return ops.reshape(constant, (3, 1, 1)) if self.data_format == "channels_first" else constant

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode, "data_format": self.data_format}


def _application(name: str) -> str:
    try:
        return application_name(name)
    except ValueError:
        raise UsageError(
            "`preprocess_input` must be the name of a module or model of `keras.applications`, such as 'vgg16'. "
            f"Received: preprocess_input={name!r}"
        ) from None


def _application_or_mode(mode: str) -> str:
    try:
        return application_name(mode)
    except ValueError:
        raise UsageError(
            f"`mode` must be one of {', '.join(map(repr, MODES))} or the name of a `keras.applications` model. "
            f"Received: mode={mode!r}"
        ) from None
