"""The blocks of a backbone, found in its graph: what a stage unfreezes, and the unit of layer-wise learning rates."""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from kerasxfer_serving.errors import UsageError

from kerasxfer.keras_internals import graph_parents, graph_units, sublayers

# Names that `keras.applications` gives on purpose, which never depend on what else was built in the process.
# The first that fits decides; a layer without one belongs to the block whose part of the graph it stands in.
_BLOCK_NAMES = tuple(
    (re.compile(pattern), label)
    for pattern, label in (
        (r"(?:.*_)?(stage_\d+_block_\d+)_", r"\1"),  # ConvNeXt
        (r"(?:.*_)?(downsampling_block_\d+)$", r"\1"),  # ConvNeXt
        (r"(conv\d+_block\d+)_", r"\1"),  # ResNet, DenseNet
        (r"(stack\d+_block\d+|transition\d+)_", r"\1"),  # KerasHub's ResNet, DenseNet
        (r"(transformer_block_\d+)$", r"\1"),  # KerasHub's ViT
        (r"(layers_\d+)$", r"\1"),  # KerasHub's DINOv2
        (r"(pool\d+)_", r"\1"),  # DenseNet's transitions
        (r"(mixed\d+)$", r"\1"),  # InceptionV3
        (r"(mixed_\d[ab])$", r"\1"),  # InceptionResNetV2
        (r"(block(?:35|17|8)_\d+)_", r"\1"),  # InceptionResNetV2
        (r"(conv_7b)(?:_|$)", r"\1"),  # InceptionResNetV2
        (r"(block_\d+)_", r"\1"),  # MobileNetV2
        (r"(Conv_1)(?:_|$)", r"\1"),  # MobileNetV2
        (r"(expanded_conv(?:_\d+)?)_", r"\1"),  # MobileNetV2, MobileNetV3
        (r"conv_(?:pad|dw|pw)_(\d+)(?:_|$)", r"block_\1"),  # MobileNet
        (r"(block\d+[a-z]?)_", r"\1"),  # VGG, Xception, EfficientNet
        (r"(top)_(?:conv|bn|activation)$", r"\1"),  # EfficientNet
        (r"(?:.*_)?(?:normal|reduction|adjust)_.*?((?:stem|reduce)_\d+|\d+)$", r"cell_\1"),  # NASNet
    )
)
_HEAD_BEGINS = (
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
)

Layer = Any


@dataclass(frozen=True)
class LayerGroup:
    """Layers that are frozen and unfrozen together.

    Args:
        name: The block's name, the same in every process.
        layers: Its layers, from the input to the output.
        backbone: Name of the model to which the block belongs.
        depth: 1 for the block next to the head, 2 for the one below, …; 0 for the head.
    """

    name: str
    layers: tuple[Layer, ...] = field(repr=False)
    backbone: str = ""
    depth: int = 0

    @property
    def parameters(self) -> int:
        """Number of parameters of the group, including moving statistics."""
        return sum(math.prod(weight.shape) for layer in self.layers for weight in layer.weights)


@dataclass(frozen=True)
class LayerGroups:
    """The groups of a model: `blocks` from the input to the output, and the `head`, everything else.

    Iteration yields the blocks and then the head; `str()` is a table.
    """

    blocks: tuple[LayerGroup, ...]
    head: LayerGroup

    def __iter__(self) -> Iterator[LayerGroup]:
        return iter((*self.blocks, self.head))

    def __len__(self) -> int:
        return len(self.blocks) + 1

    def __str__(self) -> str:
        width = max(len(group.name) for group in self)
        rows = [f"{'group':<{width}}  {'layers':>6}  {'parameters':>12}  first layer"]
        rows += [
            f"{group.name:<{width}}  {len(group.layers):>6}  {group.parameters:>12,}  "
            f"{group.layers[0].name if group.layers else '-'}"
            for group in self
        ]
        return "\n".join(rows)


def layer_groups(model: keras.Model) -> LayerGroups:
    """Groups the layers of a model into the blocks of its backbone and the head.

    The blocks of every `keras.applications` family have the names from their papers (`block5`, `mixed7`,
    `conv4_block3`, …). Layers with automatic names, which change from one instance to the next, are assigned by the
    graph. Any other functional or `Sequential` model is cut where a single tensor connects its parts, and parts of one
    resolution form a block (`block1`, `block2`, …). The backbone may be nested in the model or flattened into it.

    Args:
        model: A built `keras.Model`.

    Returns:
        The model's `LayerGroups`.

    Raises:
        ValueError: If the model is not built.

    Example:

    >>> import keras, kerasxfer
    >>> base = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg")
    >>> model = keras.Sequential([base, keras.layers.Dense(2, name="predictions")])
    >>> groups = kerasxfer.layer_groups(model)
    >>> groups.blocks[-1].name, [layer.name for layer in groups.head.layers]
    ('block_13', ['predictions'])
    """
    if not model.built:
        raise UsageError(
            f"`model` must be built, so that its layers have weights. Received: model={model.name!r}, not built. "
            "Call it on a batch, or `model.build(input_shape)`."
        )
    backbones = _backbones(model)
    if backbones == [model]:
        units = graph_units(model)
        start = _head_start(model, units)
        blocks, head = _blocks(model, units[:start]), [unit for unit in units[start:] if _is_layer(unit)]
    else:
        blocks = [block for backbone in backbones for block in _blocks(backbone, graph_units(backbone))]
        head = list(_outside(model, backbones))
    return LayerGroups(tuple(blocks), LayerGroup("head", tuple(head)))


def parts(layer: Layer) -> list[Layer]:
    """Every layer inside `layer`, at any depth, without itself."""
    return [part for child in sublayers(layer) for part in (child, *parts(child))]


def _backbones(model: keras.Model) -> list[Any]:
    """The innermost nested models that nothing with weights stands before; `[model]` where there are none."""
    units = graph_units(model)
    parents = graph_parents(model)
    if any(_label(unit.name) for unit in units if _weights(unit)):
        return [model]
    weighted_before: dict[int, bool] = {}
    roots = []
    for unit in units:
        before = any(weighted_before[id(parent)] for parent in parents[id(unit)])
        if _weights(unit) and not before:
            if not isinstance(unit, keras.Model):
                return [model]
            roots.append(unit)
        weighted_before[id(unit)] = before or bool(_weights(unit))
    return [backbone for root in roots for backbone in _backbones(root)] or [model]


def _outside(model: keras.Model, backbones: Sequence[Any]) -> Iterator[Layer]:
    for layer in model.layers:
        if layer in backbones:
            continue
        if any(backbone in parts(layer) for backbone in backbones):
            yield from _outside(layer, backbones)
        else:
            yield layer


def _head_start(model: keras.Model, units: Sequence[Any]) -> int:
    """Position of the first layer of a flat model's head: pooling or flattening after the last block."""
    named = [i for i, unit in enumerate(units) if _label(unit.name)]
    weighted = [i for i, unit in enumerate(units) if _weights(unit)]
    if not weighted:
        return len(units)
    first = named[-1] + 1 if named else weighted[0] + 1
    for i in _cuts(model, units):
        if i >= first and isinstance(units[i], _HEAD_BEGINS) and i < weighted[-1]:
            return i
    return weighted[-1] if weighted[-1] >= first else len(units)


def _blocks(backbone: Any, units: Sequence[Any]) -> list[LayerGroup]:
    segments = _segments(backbone, units)
    named = any(_label(unit.name) for unit in units)
    labels = _labels_by_name(segments) if named else _labels_by_shape(segments)
    layers: dict[str, list[Layer]] = {}
    for unit in units:
        if _is_layer(unit):
            layers.setdefault(labels[id(unit)], []).append(unit)
    groups = _without_empty(layers)
    if not named:
        groups = {f"block{i}": members for i, members in enumerate(groups.values(), 1)}
    return [
        LayerGroup(name, tuple(members), backbone.name, depth=len(groups) - i)
        for i, (name, members) in enumerate(groups.items())
    ]


def _cuts(model: keras.Model, units: Sequence[Any]) -> list[int]:
    """Positions after which the output of that very unit is all that the rest of the graph needs."""
    parents = graph_parents(model)
    position = {id(unit): i for i, unit in enumerate(units)}
    last_use = list(range(len(units)))
    for i, unit in enumerate(units):
        for parent in parents[id(unit)]:
            if id(parent) in position:
                last_use[position[id(parent)]] = i
    cuts, needed = [], 0
    for i in range(len(units)):
        if needed <= i:
            cuts.append(i)
        needed = max(needed, last_use[i])
    return cuts


def _segments(backbone: Any, units: Sequence[Any]) -> list[list[Any]]:
    ends = [-1, *_cuts(backbone, units)]
    if ends[-1] != len(units) - 1:
        ends.append(len(units) - 1)
    return [list(units[start + 1 : end + 1]) for start, end in itertools.pairwise(ends)]


def _labels_by_name(segments: Sequence[Sequence[Any]]) -> dict[int, str]:
    labels: dict[int, str] = {}
    current = "stem"
    for segment in segments:
        named = list(dict.fromkeys(label for unit in segment if (label := _label(unit.name))))
        for unit in segment:
            current = _label(unit.name) or (named[0] if len(named) == 1 else current)
            labels[id(unit)] = current
    return labels


def _labels_by_shape(segments: Sequence[Sequence[Any]]) -> dict[int, str]:
    weighted = [segment for segment in segments if any(_weights(unit) for unit in segment)]
    by_shape = len({_resolution(segment) for segment in weighted}) > 1
    labels: dict[int, str] = {}
    number, previous = 0, None
    for segment in segments:
        key = _resolution(segment) if by_shape else id(segment)
        if number == 0 or key != previous:
            number, previous = number + 1, key
        labels.update({id(unit): f"block{number}" for unit in segment})
    return labels


def _without_empty(layers: dict[str, list[Layer]]) -> dict[str, list[Layer]]:
    """Merges blocks without weights into the one before them, or into the first that has some."""
    merged: dict[str, list[Layer]] = {}
    waiting: list[Layer] = []
    for name, members in layers.items():
        if any(layer.weights for layer in members):
            merged[name] = waiting + members
            waiting = []
        elif merged:
            merged[list(merged)[-1]] += members
        else:
            waiting += members
    return merged


def _resolution(segment: Sequence[Any]) -> Any:
    try:
        shape = segment[-1].output.shape
    except (AttributeError, ValueError):  # no single output: a shared layer, or one that was never called on its own
        return None
    return shape[1:-1] if keras.config.image_data_format() == "channels_last" else shape[2:]


def _label(name: str) -> str | None:
    for pattern, label in _BLOCK_NAMES:
        if match := pattern.match(name):
            return match.expand(label)
    return None


def _is_layer(unit: Any) -> bool:
    return isinstance(unit, keras.Layer)


def _weights(unit: Any) -> list[Any]:
    return list(unit.weights) if _is_layer(unit) else []
