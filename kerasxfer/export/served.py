"""A Keras model as it is served: float32, nothing random, uint8 pixels in and probabilities out. Any backend."""

from typing import Any

import keras

from kerasxfer.export.errors import ExportArgumentError, ExportError
from kerasxfer.keras_internals import all_layers
from kerasxfer.layers.preprocess import APPLICATION_MODES, MODES, Preprocess

# Identities at inference, but traced with their random generators, which ONNX Runtime then refuses.
# Not `RandomCrop`: where images keep their size is its own affair, and it draws nothing at inference.
_RANDOM_LAYERS = tuple(
    getattr(keras.layers, name)
    for name in dir(keras.layers)
    if (name.startswith("Random") and name != "RandomCrop") or name in ("AugMix", "CutMix", "MixUp", "RandAugment")
)
_FINAL = {"softmax": keras.activations.softmax, "sigmoid": keras.activations.sigmoid}


def prepare(model: keras.Model) -> keras.Model:
    """Set every layer of `model` to float32 and turn random layers into identities, in place.

    Args:
        model: A private copy. Its variables are float32 under mixed precision already, so nothing is lost.

    Returns:
        `model`.
    """
    for layer in all_layers(model):
        if layer.dtype_policy.compute_dtype in ("float16", "bfloat16"):
            layer.dtype_policy = "float32"
        if isinstance(layer, _RANDOM_LAYERS):
            layer.call = _cast_only(layer.compute_dtype)
        # `Normalization` keeps its mean as a tensor, which tracing would make an input of the graph.
        for name, value in list(vars(layer).items()):
            if keras.ops.is_tensor(value):
                setattr(layer, name, keras.ops.convert_to_numpy(value))
    return model


def needs_preparation(model: keras.Model) -> bool:
    """Whether the answers of `prepare(model)` differ from the model's own: it computes in half precision."""
    return any(layer.dtype_policy.compute_dtype in ("float16", "bfloat16") for layer in all_layers(model))


def as_served(
    model: keras.Model, image_size: tuple[int, int], preprocessing: str | None, activation: str | None
) -> keras.Model:
    """The functional model that is converted.

    Args:
        model: A prepared classifier.
        image_size: `(height, width)`.
        preprocessing: Mode of `kerasxfer.layers.Preprocess` to put in front, or `None`.
        activation: `"softmax"` or `"sigmoid"` to apply to the model's outputs, or `None`.

    Returns:
        A model from `images`, uint8 `[batch, height, width, 3]`, to probabilities `[batch, columns]`.
    """
    images = keras.Input((*image_size, 3), dtype="uint8", name="images")
    x = _greyscale(images) if is_greyscale(model) else images
    if preprocessing is not None:
        x = Preprocess(preprocessing, data_format="channels_last")(x)
    elif input_dtype(model) != "uint8":
        x = keras.ops.cast(x, "float32")
    if is_channels_first(model):
        x = keras.ops.transpose(x, (0, 3, 1, 2))
    y = model(x, training=False)
    if activation is not None:
        y = _FINAL[activation](y)
    return keras.Model(images, y, name="classifier")


def _greyscale(images: Any) -> Any:
    """Pillow's "L", to the bit: whole numbers below 2**24 are exact in float32."""
    red, green, blue = (keras.ops.cast(images[..., channel : channel + 1], "float32") for channel in range(3))
    return keras.ops.floor((red * 19595.0 + green * 38470.0 + blue * 7471.0 + 32768.0) / 65536.0)


def input_dtype(model: keras.Model) -> str:
    """Element type that the model's input declares; float32 where it declares none."""
    inputs = getattr(model, "inputs", None)
    return str(keras.backend.standardize_dtype(inputs[0].dtype)) if inputs else "float32"


def is_channels_first(model: keras.Model) -> bool:
    """Whether the model takes `[batch, channels, height, width]`."""
    shape = model.input_shape
    return bool(shape[1] in (1, 3) and shape[-1] not in (1, 3))


def is_greyscale(model: keras.Model) -> bool:
    """Whether the model takes images of one channel."""
    shape = model.input_shape
    return bool(shape[1 if is_channels_first(model) else -1] == 1)


def refuse_other_shapes(model: keras.Model) -> None:
    """Raise an `ExportError` for a model that does not take one image and give one row of numbers."""
    try:
        shapes = model.input_shape, model.output_shape
    except (AttributeError, ValueError) as error:
        raise ExportError(
            f"`{model.name}` has no known input shape. Call it once on a batch of images, or build it, before the "
            "export."
        ) from error
    for what, shape, rank in (("input", shapes[0], 4), ("output", shapes[1], 2)):
        if not isinstance(shape, tuple | list) or not all(size is None or isinstance(size, int) for size in shape):
            raise ExportError(
                f"An exported classifier has one {what}. Received: `{model.name}` with {what}s {shape}. "
                f"Choose one: `{_choice(model)}`."
            )
        if len(shape) != rank:
            raise ExportError(f"The {what} of a classifier has {rank} dimensions. Received: `{model.name}`, {shape}.")
    channels = shapes[0][1] if is_channels_first(model) else shapes[0][-1]
    if channels not in (1, 3):
        raise ExportError(f"A classifier takes images of 3 channels, or 1. Received: `{model.name}`, {shapes[0]}.")


def _choice(model: keras.Model) -> str:
    """How to make a model with one input and one output of this one."""
    output = f"model.output[{next(iter(model.output))!r}]" if isinstance(model.output, dict) else "model.outputs[0]"
    return f"keras.Model(model.inputs[0], {output})"


def preprocessing_mode(name: str) -> str:
    """The `Preprocess` mode that a name stands for.

    Args:
        name: A mode, a model (`"InceptionV3"`, `"inception_v3"`) or a module of `keras.applications` (`"resnet_v2"`).

    Raises:
        ExportArgumentError: The name is none of these.

    Example:

    ```python
    assert preprocessing_mode("inception_v3") == preprocessing_mode("InceptionV3") == "tf"
    ```
    """
    if name in MODES:
        return name
    module = getattr(keras.applications, name, None)
    application = next((known for known in APPLICATION_MODES if hasattr(module, known)), name.replace("_", ""))
    try:
        mode: str = Preprocess(application).mode
    except ValueError as error:
        raise ExportArgumentError(f"`preprocessing` is not known. {error}") from None
    return mode


def _cast_only(dtype: str) -> Any:
    return lambda images, *args, **kwargs: keras.ops.cast(images, dtype)
