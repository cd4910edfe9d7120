"""The words that options of the commands take, in one place and without importing what they choose."""

from enum import StrEnum
from typing import Any

from kerasxfer_serving.errors import UsageError


class Device(StrEnum):
    """Where a model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    tensorrt = "tensorrt"


class Engine(StrEnum):
    """What does the work: this process, or the workers of a Ray cluster."""

    local = "local"
    ray = "ray"

    def refuse_options_of_ray(self, **options: Any) -> None:
        """Raise `UsageError` where this is not Ray, and an option that only a cluster has is given."""
        for name, value in options.items():
            if self is not Engine.ray and value is not None:
                raise UsageError(f"`--{name.replace('_', '-')}` needs `--engine ray`. Received: engine={self}")


class Table(StrEnum):
    """Formats of tables."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


class Normalisation(StrEnum):
    """What a model from elsewhere expects to have been done to pixels."""

    imagenet = "imagenet"
    tf = "tf"
    caffe = "caffe"
    rescale = "rescale"
    none = "none"


class Layout(StrEnum):
    """Where the channels are."""

    nhwc = "nhwc"
    nchw = "nchw"


class Activation(StrEnum):
    """What a model's output holds."""

    softmax = "softmax"
    sigmoid = "sigmoid"
    logits = "logits"


class Resize(StrEnum):
    """How a picture comes to the model's shape."""

    stretch = "stretch"
    crop = "crop"
    pad = "pad"
