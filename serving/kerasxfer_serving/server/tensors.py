"""The Open Inference Protocol's tensors, whatever carries them: images on the way in, answers on the way out."""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kerasxfer_serving.image_io.decoding import Source
from kerasxfer_serving.model.task import SEPARATOR
from kerasxfer_serving.outputs.predictions import OK, Predictions
from kerasxfer_serving.server.errors import RequestError, TooLargeError, UnreadableImageError
from kerasxfer_serving.server.json_bodies import image_bytes
from kerasxfer_serving.server.models import ServedModel

IMAGES = "images"
_CHANNELS = 3


class TensorSpec(NamedTuple):
    """Name, datatype and shape of an input or output, as metadata tell them."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Wanted:
    """An output that a client asks for.

    Args:
        name: Which.
        binary: Whether as binary data, over HTTP.
        classes: As that many strings `probability:index:label`, most probable first; 0 for the tensor itself.
    """

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True)
class Tensor:
    """An output: a float32 array, or strings."""

    spec: TensorSpec
    data: NDArray[np.float32] | list[bytes] = field(repr=False)

    def to_bytes(self) -> bytes:
        """The tensor in the protocol's binary form: little-endian, strings with their lengths."""
        if isinstance(self.data, list):
            return b"".join(struct.pack("<I", len(text)) + text for text in self.data)
        return self.data.astype("<f4", copy=False).tobytes()

    def to_list(self) -> list[Any]:
        """The tensor as JSON has it: flat."""
        if isinstance(self.data, list):
            return [text.decode() for text in self.data]
        flat: list[Any] = self.data.ravel().tolist()
        return flat


_Make: TypeAlias = Callable[[Predictions], NDArray[np.float32] | list[bytes]]


def _labels(predictions: Predictions) -> list[bytes]:
    return [SEPARATOR.join(labels or ()).encode() for labels in predictions.label_sets]


_SINGLE: Mapping[str, tuple[str, _Make]] = {
    "probabilities": ("FP32", lambda predictions: predictions.probabilities),
    "label": ("BYTES", lambda predictions: [str(label).encode() for label in predictions.labels]),
}
_MULTI: Mapping[str, tuple[str, _Make]] = {**_SINGLE, "labels": ("BYTES", _labels)}


def _outputs_of(model: ServedModel) -> Mapping[str, tuple[str, _Make]]:
    return _MULTI if model.manifest.is_multi_label else _SINGLE


def input_specs(model: ServedModel) -> list[TensorSpec]:
    """What a model takes: encoded images of any size. (UINT8 `[n, h, w, 3]` it takes too.)"""
    return [TensorSpec(IMAGES, "BYTES", (-1,))]


def output_specs(model: ServedModel) -> list[TensorSpec]:
    """What a model gives."""
    shapes = {"FP32": (-1, len(model.manifest.class_names)), "BYTES": (-1,)}
    return [TensorSpec(name, datatype, shapes[datatype]) for name, (datatype, _) in _outputs_of(model).items()]


def outputs(predictions: Predictions, wanted: Sequence[Wanted]) -> list[tuple[Wanted, Tensor]]:
    """The outputs asked for.

    Raises:
        UnreadableImageError: An image has no answer; the protocol has no place to say so beside the others' answers.
        RequestError: There is no such output.
    """
    for index, (code, message) in enumerate(zip(predictions.status, predictions.messages, strict=True)):
        if code != OK:
            raise UnreadableImageError(f"{IMAGES}[{index}]: {code}: {message}")
    return [(item, _output(predictions, item)) for item in wanted]


def check_wanted(wanted: Sequence[Wanted], model: ServedModel) -> None:
    """Refuse outputs that do not exist, before any work is done for them."""
    known = _outputs_of(model)
    for item in wanted:
        if item.name not in known:
            raise RequestError(f"There is no output {item.name!r:.100}. Outputs: {list(known)}")
        if item.classes and known[item.name][0] != "FP32":
            raise RequestError(f"`classification` is for outputs of numbers. Received: {item.name!r}")


def all_outputs(model: ServedModel, *, binary: bool) -> list[Wanted]:
    """Every output, for a client that names none."""
    return [Wanted(name, binary) for name in _outputs_of(model)]


def check_input(names: Sequence[str], model: ServedModel) -> None:
    """Refuse other inputs than the one that a model has; its name in the graph is right too."""
    if len(names) != 1 or names[0] not in (IMAGES, model.manifest.input_name):
        raise RequestError(f"A request has the one input `{IMAGES}`. Received: {list(names)!r:.200}")


def unknown_datatype(datatype: str) -> RequestError:
    """The error for a datatype that no image has."""
    return RequestError(
        f"`{IMAGES}` is BYTES, encoded images, or UINT8, pixels [n, height, width, 3]. Received: {datatype!r:.100}"
    )


def classes_of(parameters: Mapping[str, Any]) -> int:
    """How many classes an output is to name: the parameter `classification`; 0 for none."""
    classes = parameters.get("classification", 0)
    if not isinstance(classes, int) or classes < 0:
        raise RequestError(f"`classification` is a number of classes. Received: {classes!r:.100}")
    return classes


def pixels_of_numbers(values: list[Any]) -> NDArray[np.uint8]:
    """Pixels of numbers in lists."""
    try:
        array = np.array(values)
    except ValueError:
        array = np.empty(0, object)  # rows of different lengths
    if array.dtype.kind not in "iu" or (array.size and (array.min() < 0 or array.max() > 255)):
        raise RequestError("UINT8 data are whole numbers from 0 to 255, flat or in rows of equal length.")
    return array.astype(np.uint8)


def images_of_strings(elements: Sequence[bytes], shape: Sequence[int], most: int) -> list[Source]:
    """Images of a BYTES tensor; elements that are no image are taken for base64."""
    if len(elements) > most:
        raise TooLargeError(f"A request has at most {most} images. Received: {len(elements)}")
    _check_count(len(elements), shape)
    return [image_bytes(element, f"{IMAGES}[{index}]") for index, element in enumerate(elements)]


def images_of_pixels(pixels: NDArray[np.uint8], shape: Sequence[int], most: int) -> list[Source]:
    """Images of a UINT8 tensor `[n, h, w, 3]` or `[h, w, 3]`."""
    if len(shape) not in (3, 4) or shape[-1] != _CHANNELS or min(shape) < 1:
        raise RequestError(f"A UINT8 tensor of images has shape [n, height, width, 3]. Received: {list(shape)}")
    _check_count(pixels.size, shape)
    if len(shape) == 4 and shape[0] > most:
        raise TooLargeError(f"A request has at most {most} images. Received: {shape[0]}")
    array = pixels.reshape(shape)
    return list(array) if array.ndim == 4 else [array]


def split_strings(data: memoryview, most: int) -> list[bytes]:
    """Elements of a BYTES tensor in binary form."""
    return list(_split(data, most))


def _split(data: memoryview, most: int) -> Iterator[bytes]:
    position = count = 0
    while position < len(data):
        if count == most:
            raise TooLargeError(f"A request has at most {most} images. Received: more.")
        if position + 4 > len(data):
            raise RequestError("A BYTES tensor ends inside the length of an element.")
        (length,) = struct.unpack_from("<I", data, position)
        position += 4
        if position + length > len(data):
            raise RequestError(f"A BYTES tensor ends inside an element of {length:,} bytes.")
        yield bytes(data[position : position + length])
        position += length
        count += 1


def _check_count(count: int, shape: Sequence[int]) -> None:
    size = 1
    for side in shape:
        size *= side
    if size != count or any(side < 0 for side in shape):
        raise RequestError(f"The shape of {IMAGES} does not fit its data: {list(shape)!s:.100} and {count:,} elements.")


def _output(predictions: Predictions, wanted: Wanted) -> Tensor:
    datatype, make = _MULTI[wanted.name]
    data = make(predictions)
    if isinstance(data, list):
        return Tensor(TensorSpec(wanted.name, datatype, (len(data),)), data)
    if wanted.classes:
        best = np.argsort(-data, axis=1, kind="stable")[:, : wanted.classes]
        strings = [
            f"{data[row, column]:f}:{column}:{predictions.class_names[column]}".encode()
            for row in range(len(data))
            for column in best[row]
        ]
        return Tensor(TensorSpec(wanted.name, "BYTES", best.shape), strings)
    return Tensor(TensorSpec(wanted.name, datatype, data.shape), data)
