"""The words that options of the commands take, in one place and without importing what they choose."""

from enum import StrEnum


class Device(StrEnum):
    """Where a model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    tensorrt = "tensorrt"


class Engine(StrEnum):
    """What predicts."""

    local = "local"
    ray = "ray"


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
