"""Classifiers on raw pixels: preprocessing, a backbone and a head in one functional model."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.model.class_names import ClassNames, normalise_class_names

from kerasxfer.backbones.applications import load_backbone
from kerasxfer.backbones.hub import PREFIX, load_preset, parts_of, returns_pyramid, takeable_config
from kerasxfer.layers.classifier_head import ClassifierHead
from kerasxfer.layers.preprocess import Preprocess, application_mode
from kerasxfer.pixel_range import checked
from kerasxfer.types import Data, Scores, Tensor


@keras.saving.register_keras_serializable(package="kerasxfer")
class ImageClassifier(keras.Model):
    """A functional model on uint8 pixels that refuses data that cannot be pixels in 0–255.

    `fit`, `evaluate`, `predict` and their `…_on_batch` variants check their data; see `kerasxfer.pixel_range`. Calling
    the model, or Keras's methods directly (`keras.Model.fit(model, x, y)`), does not.
    """

    def fit(self, x: Data = None, *args: Any, validation_data: Data = None, **kwargs: Any) -> keras.callbacks.History:
        if isinstance(validation_data, tuple | list):
            validation_data = (checked(validation_data[0]), *validation_data[1:])
        elif validation_data is not None:
            validation_data = checked(validation_data)
        return super().fit(checked(x), *args, validation_data=validation_data, **kwargs)

    def evaluate(self, x: Data = None, *args: Any, **kwargs: Any) -> Scores:
        scores: Scores = super().evaluate(checked(x), *args, **kwargs)
        return scores

    def predict(self, x: Data, *args: Any, **kwargs: Any) -> Tensor:
        return super().predict(checked(x), *args, **kwargs)

    def train_on_batch(self, x: Data, *args: Any, **kwargs: Any) -> Scores:
        scores: Scores = super().train_on_batch(checked(x), *args, **kwargs)
        return scores

    def test_on_batch(self, x: Data, *args: Any, **kwargs: Any) -> Scores:
        scores: Scores = super().test_on_batch(checked(x), *args, **kwargs)
        return scores

    def predict_on_batch(self, x: Data) -> Tensor:
        return super().predict_on_batch(checked(x))

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        for layer in config.get("layers", ()):
            layer["config"] = takeable_config(layer["class_name"], layer["config"])
        return config


# A `.h5` file names the class of a model without its package.
keras.saving.get_custom_objects()["ImageClassifier"] = ImageClassifier


def image_classifier(
    backbone: str | keras.Model,
    class_names: ClassNames | None,
    image_size: tuple[int, int],
    *,
    weights: str | os.PathLike[str] | None = "imagenet",
    backbone_output: str | None = None,
    backbone_kwargs: Mapping[str, Any] | None = None,
    preprocess: str | None = None,
    head: str | keras.layers.Layer = "average",
    dropout: float = 0.0,
    activation: str | None = None,
    multi_label: bool = False,
    augmentation: keras.layers.Layer | None = None,
    trainable: bool = False,
    name: str | None = None,
) -> keras.Model:
    """A classifier from 0–255 RGB pixels to class probabilities.

    The backbone is flattened into the model and its layers keep their names, so you can unfreeze
    `model.get_layer("block5_conv1")` or split the graph at any layer. Names that Keras numbers automatically
    (`conv2d_94`) start from 0 in every model, so that a schedule or a cache means the same layer in another process.

    The backbone is frozen, including its BatchNormalization layers: train the head first, then unfreeze, for example
    with `kerasxfer.callbacks.ProgressiveUnfreezing`.

    Args:
        backbone: Name of a `keras.applications` model (`"VGG16"`, `"InceptionV3"`, …); `"DemoVGG"`, the small network
            that comes with kerasxfer; `"hub:"` and the name of a KerasHub preset (`"hub:resnet_50_imagenet"`,
            `"hub:hf://…"`), loaded by KerasHub; or a functional or sequential `keras.Model` on images, such as a
            backbone of `keras_hub.models`, which is copied. The encoder layers of ViT and DINOv2 are flattened too.
        class_names: Names of the classes: a sequence or array in the order of their indices, or a mapping from or to
            indices (`{"cat": 0, "dog": 1}`). Two or more.
        image_size: `(height, width)` of the pixels.
        weights: `"imagenet"`; the path of a weights file of the *whole* backbone without its top, even when
            `backbone_output` cuts it; or `None` for random weights. For `"DemoVGG"`, `"imagenet"` means its own
            weights. A `keras.Model` keeps its weights. Defaults to `"imagenet"`.
        backbone_output: Name of the layer whose output is used as features, for example `"mixed7"`.
            Defaults to `None`, the backbone's output.
        backbone_kwargs: Extra arguments for the application, for example `{"alpha": 0.75}`. Defaults to `None`.
        preprocess: Mode of `kerasxfer.layers.Preprocess`: `"caffe"`, `"tf"`, `"torch"`, `"rescale"`, `"none"`, or the
            name of an application. Defaults to `None`, the application's own, respecting its `include_preprocessing`.
            Required for a `keras.Model`, whose expectations cannot be known (`"none"` if it preprocesses by itself).
        head: `"average"`, `"max"` or `"flatten"`, then hidden widths, such as `"flatten-256"`; or a layer from features
            to probabilities, to which `dropout`, `activation` and `multi_label` do not apply. Defaults to `"average"`.
        dropout: Fraction of units dropped before the last layer. Defaults to `0.0`.
        activation: `"softmax"`, or `"sigmoid"` for one unit, the probability of the second of two classes.
            Defaults to `None`: `"softmax"`, or with `multi_label` `"sigmoid"`.
        multi_label: Whether images have any number of labels: one sigmoid per class, to be compiled with
            `"binary_crossentropy"` and trained on multi-hot targets. Defaults to `False`, mutually exclusive classes.
        augmentation: A layer that augments pixels in training, usually `kerasxfer.layers.Augmentation`.
            Defaults to `None`.
        trainable: Whether the backbone trains from the start. Defaults to `False`.
        name: Name of the model. Defaults to `None`.

    Returns:
        A functional model, not compiled, with uint8 input `images`, layer `preprocess`, the backbone's layers and
        `head`. Given values that cannot be pixels in 0–255, it raises `PixelRangeError` instead of casting them. The
        class names are stored in the head's configuration, and so in every file of the model.

    Raises:
        ValueError: If an argument is out of its range, or the backbone has no such layer.
        WeightsError: If the weights are not available or belong to another network; random weights are never used
            instead.

    Example:

    ```python
    import kerasxfer

    model = kerasxfer.image_classifier("DemoVGG", ["circle", "square"], (64, 64), head="average-32", dropout=0.2)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    ```
    """
    class_names = _class_names(class_names)
    _validate(image_size)
    source, mode = _source(backbone, image_size, weights, backbone_kwargs, preprocess)
    images = keras.Input((*image_size, 3), dtype="uint8", name="images")
    pixels = images if augmentation is None else augmentation(images)
    pixels = Preprocess(mode, name="preprocess")(pixels)
    features, layers = _copy_flat(_features(source, backbone_output), images, pixels, isinstance(backbone, str))
    if not trainable:
        for layer in layers:
            layer.trainable = False
    if isinstance(head, str):
        head = ClassifierHead.from_spec(
            head, len(class_names), dropout=dropout, activation=activation, multi_label=multi_label, name="head"
        )
    if isinstance(head, ClassifierHead) and head.class_names is None:
        head.class_names = class_names
    return ImageClassifier(images, head(features), name=name)


def _class_names(given: Any) -> tuple[str, ...]:
    names = () if isinstance(given, str) else normalise_class_names(given)
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(f"`class_names` must be two or more different names. Received: class_names={given!r:.200}")
    return names


def _validate(image_size: tuple[int, int]) -> None:
    if len(image_size) != 2 or min(image_size) < 1:
        raise UsageError(f"`image_size` must be (height, width), both positive. Received: image_size={image_size!r}")
    if keras.config.image_data_format() != "channels_last":
        raise UsageError(
            "`image_classifier` builds models on `channels_last` images. Call "
            "`keras.config.set_image_data_format('channels_last')` first. "
            f"Received: image_data_format={keras.config.image_data_format()!r}"
        )


def _source(
    backbone: str | keras.Model,
    image_size: tuple[int, int],
    weights: str | os.PathLike[str] | None,
    backbone_kwargs: Mapping[str, Any] | None,
    preprocess: str | None,
) -> tuple[keras.Model, str]:
    """The backbone by itself, with its weights, and the mode of preprocessing."""
    if isinstance(backbone, str) and backbone.startswith(PREFIX):
        model, mode = load_preset(backbone.removeprefix(PREFIX), image_size, load_weights=weights is not None)
        return model, preprocess or mode or _unknown(backbone)
    if isinstance(backbone, str):
        options = backbone_kwargs or {}
        mode = preprocess or application_mode(backbone, options.get("include_preprocessing", True))
        return load_backbone(backbone, (*image_size, 3), weights, options), mode
    return backbone, preprocess or _unknown(backbone)


def _unknown(backbone: str | keras.Model) -> str:
    raise UsageError(
        "`preprocess` must say what a `keras.Model` backbone expects: 'caffe', 'tf', 'torch', 'rescale' or "
        f"'none'. Received: backbone={backbone!r}, preprocess=None"
    )


def _features(source: keras.Model, output: str | None) -> keras.Model:
    """The part of a backbone that leads to its features, as a plain functional model."""
    if not isinstance(source, keras.Model) or getattr(source, "inputs", None) is None or len(source.inputs) != 1:
        raise UsageError(
            "`backbone` must be a name, or a functional or built sequential `keras.Model` with one input. "
            f"Received: backbone={source!r}"
        )
    if output is None:
        return keras.Model(source.inputs[0], source.outputs[0])
    names = [layer.name for layer in source.layers]
    if output not in names:
        raise UsageError(
            f"`backbone_output` must be the name of a layer of '{source.name}'. Received: {output!r}. "
            f"Its last layers: {', '.join(names[-8:])}"
        )
    return keras.Model(source.inputs[0], source.get_layer(output).output)


def _copy_flat(
    source: keras.Model, images: Tensor, pixels: Tensor, renumber: bool
) -> tuple[Tensor, list[keras.layers.Layer]]:
    """Repeat a model's layers on `pixels`, which come from `images`; its features there, and the new layers.

    Copies, not the layers themselves: a layer called twice keeps its first output, so `model.get_layer(...).output`
    would lead into the backbone's own graph.
    """
    names = _stable_names(source.layers) if renumber else {}
    originals: dict[int, Any] = {}
    copies: list[tuple[Any, Any]] = []

    def copy(layer: Any) -> Any:
        config = takeable_config(type(layer).__name__, layer.get_config())
        if layer.name in names:
            config["name"] = names[layer.name]
        new = type(layer).from_config(config)
        originals[id(new)] = layer
        return new

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        args = keras.tree.map_structure(lambda tensor: pixels if tensor is images else tensor, args)
        original = originals[id(layer)]
        if parts_of(original) is None:
            copies.append((original, layer))
            return layer(*args, **kwargs)
        x, *_ = args
        if not layer.built:
            layer.build(x.shape)
        for old, new in zip(parts_of(original) or (), parts_of(layer) or (), strict=True):
            copies.append((old, new))
            x = new(x)
        return (x, {}) if returns_pyramid(layer) else x

    model = keras.models.clone_model(source, input_tensors=images, clone_function=copy, call_function=call)
    layers = [(old, new) for old, new in copies if isinstance(new, keras.layers.Layer)]
    for old, new in layers:
        new.set_weights(old.get_weights())
    return model.outputs[0], [new for _, new in layers]


def _stable_names(layers: Sequence[Any]) -> dict[str, str]:
    """New names for the layers that Keras has named, which counts through a process: `conv2d_94` to `conv2d`."""
    names: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for layer in layers:
        stem = re.sub(r"_\d+$", "", layer.name)
        if stem.replace("_", "") == type(layer).__name__.lower():
            names[layer.name] = f"{stem}_{seen[stem]}" if seen[stem] else stem
            seen[stem] += 1
    return names
