"""Models that Keras 2 saved in `.h5` files, told in Keras 3's words: the architecture only, the weights are the same.

Covers classifiers on `keras.applications` with what is usual around them: nested models, augmenting layers, and
arithmetic with constants on tensors, such as an application's `preprocess_input`.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

Config = dict[str, Any]
Number = float | list[float]

_MODELS = ("Sequential", "Functional", "Model")
_CAFFE_BIAS = (-103.939, -116.779, -123.68)
_REVERSED_CHANNELS = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]

# Arguments that Keras 3 has no more, and that decide nothing about a trained model.
_DROPPED_FROM_ALL = ("rng_type",)
_DROPPED = {
    "DepthwiseConv2D": ("groups",),
    "SeparableConv2D": ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"),
}

_SCALE_AND_OFFSET: Mapping[str, Callable[[Any], tuple[Number, Number]]] = {
    "math.truediv": lambda y: (_each(y, lambda value: 1 / value), 0.0),
    "math.multiply": lambda y: (y, 0.0),
    "math.add": lambda y: (1.0, y),
    "__operators__.add": lambda y: (1.0, y),
    "math.subtract": lambda y: (1.0, _each(y, lambda value: -value)),
    "nn.bias_add": lambda bias: (1.0, bias),
}
# A `Lambda` holds the code of its function, and names its module: an application's has one function on tensors.
_APPLICATION = re.compile(r"(?:tf_|tensorflow\.python\.)?keras(?:\.src)?\.applications\.(\w+)")
_PREPROCESS_INPUT = {"class_name": "function", "config": "preprocess_input", "registered_name": "preprocess_input"}
_MERGES = {"math.add": "Add", "__operators__.add": "Add", "math.subtract": "Subtract", "math.multiply": "Multiply"}


def translate(config: Mapping[str, Any]) -> Config:
    """The configuration of a Keras 2 model for Keras 3.

    Args:
        config: The `model_config` of a `.h5` file.

    Returns:
        The configuration that Keras 3 reads.

    Raises:
        ValueError: If a layer is an operation that has no translation.
    """
    model = config["config"]
    layers = [_layer(layer) for layer in model["layers"]]
    if config["class_name"] == "Sequential":
        return {**config, "config": {**model, "layers": layers}}
    nested = {layer["config"]["name"]: layer["class_name"] for layer in layers if layer["class_name"] in _MODELS}
    layers = _without_operations([{**layer, "inbound_nodes": _nodes(layer, nested)} for layer in layers])
    model = {
        **model,
        "name": _name(model["name"]),
        "layers": layers,
        "input_layers": _ends(model["input_layers"], ()),
        # Keras 3 itself passes over that node of a functional model, here only.
        "output_layers": _ends(model["output_layers"], [name for name in nested if nested[name] == "Sequential"]),
    }
    return {**config, "class_name": "Functional", "config": model}


def _ends(tensors: Sequence[Any], nested: Collection[str]) -> list[Any]:
    """Inputs or outputs: a single one as it is, for a list of one would be what the next layer gets."""
    references = [_reference(tensor, nested) for tensor in tensors]
    return references[0] if len(references) == 1 else references


def _layer(layer: Config) -> Config:
    if layer["class_name"] in _MODELS:
        translated = translate(layer)
    else:
        translated = {**layer, "config": _arguments(layer["class_name"], layer["config"])}
    return {**translated, **({"name": _name(layer["name"])} if "name" in layer else {})}


def _arguments(class_name: str, config: Config) -> Config:
    dropped = (*_DROPPED_FROM_ALL, *_DROPPED.get(class_name, ()))
    kept = {key: value for key, value in config.items() if key not in dropped}
    if class_name == "Lambda" and (module := _APPLICATION.fullmatch(str(config.get("module")))):
        function = {**_PREPROCESS_INPUT, "module": f"keras.applications.{module[1]}"}
        kept = {"dtype": config["dtype"], "function": function, "arguments": config.get("arguments", {})}
    if isinstance(axis := kept.get("axis"), list) and len(axis) == 1:
        kept["axis"] = axis[0]
    return {**kept, "name": _name(config["name"])}


def _nodes(layer: Config, nested: Collection[str]) -> list[Any]:
    """Each call of a layer as a list of tensors, which the call of an operation is not."""
    nodes = [[node] if isinstance(node[0], str) else node for node in layer["inbound_nodes"]]
    return [[_reference(tensor, nested) for tensor in node] for node in nodes]


def _reference(tensor: Sequence[Any], nested: Collection[str]) -> list[Any]:
    """A tensor by layer, node and number. Keras 2 counts a node of a nested model that Keras 3 does not."""
    name, node, *rest = tensor
    name = _name(name)
    if rest[1:]:
        rest[1] = {key: _reference(value, nested) if _is_tensor(value) else value for key, value in rest[1].items()}
    return [name, node - (name in nested), *rest]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)


def _without_operations(layers: list[Config]) -> list[Config]:
    """Arithmetic as layers."""
    known = {layer["config"]["name"]: layer for layer in layers}
    return [
        _operation(layer, known) if layer["class_name"] in ("TFOpLambda", "SlicingOpLambda") else layer
        for layer in layers
    ]


def _operation(layer: Config, known: Mapping[str, Config]) -> Config:
    function = layer["config"]["function"]
    ((tensor, *others),) = layer["inbound_nodes"]
    inbound, arguments = tensor[:3], tensor[3]
    values = [value for key, value in arguments.items() if key in ("y", "bias")]
    if function == "__operators__.getitem" and _feeds_caffe_bias(layer, known):
        return _as(layer, "kerasxfer>Preprocess", {"mode": "caffe", "data_format": "channels_last"}, inbound)
    if function == "nn.bias_add" and known[inbound[0]]["class_name"] == "SlicingOpLambda":
        return _as(layer, "Activation", {"activation": "linear"}, inbound)  # `Preprocess` has taken the means off
    if not others and len(values) == 1:
        if _is_tensor(values[0]) and function in _MERGES:
            return _as(layer, _MERGES[function], {}, inbound, values[0])
        if not _is_tensor(values[0]) and function in _SCALE_AND_OFFSET:
            scale, offset = _SCALE_AND_OFFSET[function](values[0])
            return _as(layer, "Rescaling", {"scale": scale, "offset": offset}, inbound)
    raise ValueError(f"its operation `{layer['config']['name']}` (`tf.{function}`) has no counterpart in Keras 3.")


def _feeds_caffe_bias(layer: Config, known: Mapping[str, Config]) -> bool:
    """Whether a slice turns RGB to BGR for a `preprocess_input` that takes the means off, and for nothing else."""
    (((_, _, _, arguments),),) = layer["inbound_nodes"]
    if arguments.get("slice_spec") != _REVERSED_CHANNELS:
        return False
    takers = [
        (other["config"].get("function"), tensor[3].get("bias"))
        for other in known.values()
        for node in other["inbound_nodes"]
        for tensor in node
        if tensor[0] == layer["config"]["name"]
    ]
    if len(takers) != 1 or takers[0][0] != "nn.bias_add":
        return False
    return all(abs(one - other) < 1e-3 for one, other in zip(takers[0][1], _CAFFE_BIAS, strict=True))


def _as(layer: Config, class_name: str, arguments: Config, *tensors: Sequence[Any]) -> Config:
    name = layer["config"]["name"]
    config = {"name": name, "dtype": layer["config"]["dtype"], **arguments}
    nodes = [[[*tensor, {}] for tensor in tensors]]
    return {"class_name": class_name, "config": config, "name": name, "inbound_nodes": nodes}


def _each(value: Any, function: Callable[[float], float]) -> Number:
    return [function(item) for item in value] if isinstance(value, list) else function(value)


def _name(name: str) -> str:
    """Keras 3 allows no slash."""
    return name.replace("/", "_")
