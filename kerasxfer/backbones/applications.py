"""Pretrained networks by name, with the weights that were asked for or an error."""

import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
from kerasxfer_serving.errors import KerasxferError, UsageError

from kerasxfer.layers.preprocess import application_name


class WeightsError(KerasxferError):
    """Pretrained weights that are not available, or that do not fit the network."""


def load_backbone(
    name: str, input_shape: tuple[int, int, int], weights: str | os.PathLike[str] | None, kwargs: Mapping[str, Any]
) -> keras.Model:
    """A `keras.applications` model, or `"DemoVGG"`, without its top.

    Args:
        name: Name of the application; upper and lower case do not matter.
        input_shape: `(height, width, channels)`.
        weights: `"imagenet"`, a path, or `None` for random ones.
        kwargs: More arguments of the application.

    Raises:
        ValueError: If there is no such application, or it refuses an argument.
        WeightsError: If the weights are not available or do not fit.
    """
    name = application_name(name)
    reserved = sorted({"include_top", "input_shape", "input_tensor", "weights", "pooling", "classes"} & set(kwargs))
    if reserved:
        raise UsageError(f"`backbone_kwargs` must not hold {', '.join(reserved)}: `image_classifier` sets these.")

    def build(source: str | None) -> keras.Model:
        try:
            return _application(name)(include_top=False, input_shape=input_shape, weights=source, **kwargs)
        except (TypeError, ValueError) as error:
            given = ", ".join(f"{key}={value!r}" for key, value in {"input_shape": input_shape, **kwargs}.items())
            raise UsageError(f"{name} does not take {given}: {_one_line(error)}") from error

    if weights is None:
        return build(None)
    if isinstance(weights, str) and weights in ("imagenet", "demo"):
        return _download(name, build, weights)
    return _load(name, build(None), Path(weights))


def _application(name: str) -> Callable[..., keras.Model]:
    if name == "DemoVGG":
        from kerasxfer.backbones.demo_vgg import DemoVGG

        return DemoVGG
    return getattr(keras.applications, name)  # type: ignore[no-any-return]


def _download(name: str, build: Callable[[str], keras.Model], weights: str) -> keras.Model:
    if name == "DemoVGG":
        return build("demo")
    try:
        return build(weights)
    except Exception as error:  # Keras raises a bare `Exception` when a download fails
        url = re.search(r"URL fetch failure on (\S+?):? ", str(error))
        if url is None:
            raise
        file = url[1].rsplit("/", 1)[-1]
        home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"), "models")
        raise WeightsError(
            f"The ImageNet weights of {name}, '{file}', are not on this machine and cannot be downloaded ({error}). "
            "Three ways out:\n"
            f"  1. get {url[1]} on another machine and put it at '{home / file}';\n"
            "  2. give the path of a weights file: `weights='path/to/file.h5'` (`--weights` on the command line);\n"
            "  3. take the small backbone that comes with kerasxfer, 'DemoVGG', or train from random weights "
            "with `weights=None, trainable=True`."
        ) from error


def _load(name: str, backbone: keras.Model, path: Path) -> keras.Model:
    if not path.is_file():
        raise WeightsError(f"`weights` must be 'imagenet', a file, or None. Received: '{path}', which is not a file")
    try:
        with warnings.catch_warnings():
            # Keras only warns where a file lacks a layer, which then keeps its random weights.
            warnings.filterwarnings("error", message=".*freshly-initialized")
            backbone.load_weights(path)
    except (UserWarning, ValueError, OSError, KeyError) as error:
        raise WeightsError(
            f"'{path}' does not fit {name} without its top: {_one_line(error)}\n"
            "The file must be of the same application, made with `include_top=False` and with the same arguments: a "
            "MobileNet of another width, say, needs its `alpha` in `backbone_kwargs` (`--backbone-args alpha=0.75` on "
            "the command line)."
        ) from error
    return backbone


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
