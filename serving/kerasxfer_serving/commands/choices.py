"""Choices that command options accept, declared here so that `--help` imports nothing heavy."""

from enum import StrEnum


class ResultFormat(StrEnum):
    """How a command prints its result."""

    text = "text"
    json = "json"


class Device(StrEnum):
    """Where a model runs."""

    auto = "auto"
    cpu = "cpu"
    openvino = "openvino"
    cuda = "cuda"
    tensorrt = "tensorrt"
    fastest = "fastest"


class CpuPrecision(StrEnum):
    """Precision in which OpenVINO computes float32 products."""

    f32 = "f32"
    bf16 = "bf16"


class Decode(StrEnum):
    """What decodes images."""

    pillow = "pillow"
    gpu = "gpu"


class EngineName(StrEnum):
    """What does the work: this process, or the workers of a Ray cluster."""

    local = "local"
    ray = "ray"


class TableFormat(StrEnum):
    """Formats of tables."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


class PreprocessName(StrEnum):
    """How images were prepared for a model from elsewhere, by its well-known name."""

    imagenet = "imagenet"
    torch = "torch"
    torchvision = "torchvision"
    timm = "timm"
    clip = "clip"
    tf = "tf"
    caffe = "caffe"
    rescale = "rescale"
    none = "none"


class Layout(StrEnum):
    """Position of the channel axis."""

    nhwc = "nhwc"
    nchw = "nchw"


class ActivationName(StrEnum):
    """What a model's output holds."""

    softmax = "softmax"
    sigmoid = "sigmoid"
    logits = "logits"


class ResizeName(StrEnum):
    """How an image is fitted to the model's input."""

    stretch = "stretch"
    crop = "crop"
    pad = "pad"


class InterpolationName(StrEnum):
    """Pillow's filters."""

    nearest = "nearest"
    bilinear = "bilinear"
    bicubic = "bicubic"
    lanczos = "lanczos"
    box = "box"
    hamming = "hamming"


class LogFormat(StrEnum):
    """How log lines look: for people or for machines."""

    text = "text"
    json = "json"
