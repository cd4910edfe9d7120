"""Stages against a model: what their names and numbers mean, what trains in each, in which mode, at which rate."""

import difflib
import fnmatch
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

from kerasxfer.unfreezing.groups import LayerGroup, LayerGroups, layer_groups, parts
from kerasxfer.unfreezing.stages import ScheduleError, Stage, check_ends

Flags = list[tuple[Any, bool]]


@dataclass(frozen=True)
class ResolvedStage:
    """A stage of a schedule, for one model.

    Args:
        stage: The stage.
        index: Its place in the schedule, from 0.
        blocks: Names of the blocks that train, wholly or in part, from the input to the output.
        layers: The layers that train, the head's included. A frozen `BatchNormalization` is not among them.
        variables: The variables that train, in the model's order.
        factors: Each variable's share of the learning rate.
        shares: The same by block.
        flags: The `trainable` flag of every layer, containers before what they contain.
    """

    stage: Stage
    index: int
    blocks: tuple[str, ...]
    layers: tuple[Any, ...] = field(repr=False)
    variables: tuple[Any, ...] = field(repr=False)
    factors: tuple[float, ...] = field(repr=False)
    shares: dict[str, float] = field(repr=False)
    flags: tuple[tuple[Any, bool], ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The stage's name."""
        return str(self.stage.name)

    @property
    def batch_norm(self) -> str:
        """The stage's `batch_norm`."""
        return self.stage.batch_norm

    @property
    def parameters(self) -> int:
        """How many numbers train."""
        return sum(math.prod(variable.shape) for variable in self.variables)

    @property
    def weights(self) -> list[Any]:
        """What the stage can change: the weights of its layers, moving statistics included."""
        return list({id(weight): weight for layer in self.layers for weight in layer.weights}.values())


def resolve(stages: Sequence[Stage], model: keras.Model) -> tuple[ResolvedStage, ...]:
    """Finds out what each stage trains. Nothing is trained, and the model is left as it was.

    Args:
        stages: The schedule.
        model: A built `keras.Model`.

    Returns:
        One `ResolvedStage` for each stage.

    Raises:
        ScheduleError: If a stage names what is not there, is ambiguous, overlaps another or changes nothing; it
            says what there is to choose from.
    """
    check_ends(stages)
    groups = layer_groups(model)
    training = {id(layer) for layer in groups.head.layers}
    resolved: list[ResolvedStage] = []
    for index, stage in enumerate(stages):
        with _naming(index, stage):
            added = _added(stage, groups, training)
            removed = {id(layer) for layer in _select(stage.freeze, groups, "freeze")}
            _check_freeze(stage, added, removed, training)
            training = (training | added) - removed
            one = _resolved(stage, index, model, groups, training)
            _check_change(one, resolved[-1] if resolved else None)
            resolved.append(one)
    return tuple(resolved)


def union(resolved: Sequence[ResolvedStage], model: keras.Model) -> list[Any]:
    """Every variable that some stage trains, in the model's order."""
    ever = [
        (layer, any(flag for _, flag in flags))
        for flags in zip(*(one.flags for one in resolved), strict=True)
        for layer in [flags[0][0]]
    ]
    with _flagged(model, ever):
        return list(model.trainable_variables)


def flags_of(model: keras.Model) -> Flags:
    """The `trainable` flag of every layer, containers before what they contain."""
    return [(layer, layer.trainable) for layer in (model, *parts(model))]


def set_flags(flags: Sequence[tuple[Any, bool]]) -> None:
    """Sets `trainable` flags. The setter recurses, so the order of `flags_of` matters."""
    for layer, trainable in flags:
        layer.trainable = trainable


@contextmanager
def _flagged(model: keras.Model, flags: Sequence[tuple[Any, bool]]) -> Iterator[None]:
    before = flags_of(model)
    try:
        set_flags(flags)
        yield
    finally:
        set_flags(before)


def _resolved(stage: Stage, index: int, model: keras.Model, groups: LayerGroups, training: set[int]) -> ResolvedStage:
    flags = _flags(stage, model, groups, training)
    with _flagged(model, flags):
        variables = tuple(model.trainable_variables)
    trained = {id(variable) for variable in variables}
    layers = tuple(
        layer for layer, flag in flags if flag and not parts(layer) and any(id(w) in trained for w in layer.weights)
    )
    depth = {id(weight): group.depth for group in groups for layer in group.layers for weight in layer.weights}
    decay = stage.layer_decay or 1.0
    blocks = [block for block in groups.blocks if _holds(block, trained)]
    return ResolvedStage(
        stage=stage,
        index=index,
        blocks=tuple(block.name for block in blocks),
        layers=layers,
        variables=variables,
        factors=tuple(decay ** depth.get(id(variable), 0) for variable in variables),
        shares={block.name: decay**block.depth for block in blocks},
        flags=tuple(flags),
    )


def _holds(block: LayerGroup, variables: set[int]) -> bool:
    return any(id(weight) in variables for layer in block.layers for weight in layer.weights)


def _flags(stage: Stage, model: keras.Model, groups: LayerGroups, training: set[int]) -> Flags:
    """Flags of the whole model. Those of the head stay as the user set them, unless a stage freezes the head."""
    wanted: dict[int, bool] = {}
    for group in groups:
        for unit in group.layers:
            for layer in (unit, *parts(unit)):
                frozen_norm = group is not groups.head and stage.batch_norm == "frozen" and _is_batch_norm(layer)
                kept = layer.trainable if group is groups.head else True
                wanted[id(layer)] = id(unit) in training and kept and not frozen_norm
    flags = []
    for layer in (model, *parts(model)):
        if id(layer) not in wanted:  # a container of blocks, or the model itself
            wanted[id(layer)] = layer is model or any(wanted.get(id(part), False) for part in parts(layer))
        flags.append((layer, wanted[id(layer)]))
    return flags


def _is_batch_norm(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def _added(stage: Stage, groups: LayerGroups, training: set[int]) -> set[int]:
    chosen = _select(stage.unfreeze, groups, "unfreeze")
    if stage.unfreeze is not None and isinstance(stage.unfreeze, (str, tuple)) and stage.unfreeze != "all":
        for block in _blocks_named(stage.unfreeze, groups):
            if _trains(block, training):
                raise ScheduleError(
                    f"`unfreeze` overlaps: {block.name!r} trains already. Received: unfreeze={stage.unfreeze!r}. "
                    f"Still frozen: {_listed([b.name for b in groups.blocks if not _trains(b, training)])}"
                )
    return {id(layer) for layer in chosen}


def _trains(block: LayerGroup, training: set[int]) -> bool:
    return all(id(layer) in training for layer in block.layers if layer.weights)


# What selections mean


def _select(selection: str | int | float | Sequence[str] | None, groups: LayerGroups, argument: str) -> list[Any]:
    """The layers that `unfreeze` or `freeze` means.

    Args:
        selection: The argument's value.
        groups: The model's groups.
        argument: `"unfreeze"` or `"freeze"`.

    Returns:
        Layers of the groups, from the input to the output.
    """
    if selection is None:
        return []
    if isinstance(selection, str):
        if selection == "all" and argument == "unfreeze":
            return [layer for block in groups.blocks for layer in block.layers]
        return _named(selection, groups, argument, upwards=argument == "unfreeze")
    if isinstance(selection, Sequence):
        return [layer for name in selection for layer in _named(name, groups, argument, upwards=False)]
    return [layer for block in _top(selection, groups) for layer in block.layers]


def _top(selection: float, groups: LayerGroups) -> list[LayerGroup]:
    most: dict[str, int] = {}
    for block in groups.blocks:
        most[block.backbone] = max(most.get(block.backbone, 0), block.depth)
    if isinstance(selection, int) and selection > max(most.values(), default=0):
        raise ScheduleError(
            f"`unfreeze` as a number counts blocks from the top, of which there are {max(most.values(), default=0)}. "
            f"Received: unfreeze={selection}. The blocks: {_listed([block.name for block in groups.blocks])}"
        )
    depth = {name: selection if isinstance(selection, int) else math.ceil(selection * n) for name, n in most.items()}
    return [block for block in groups.blocks if block.depth <= depth[block.backbone]]


def _named(name: str, groups: LayerGroups, argument: str, upwards: bool) -> list[Any]:
    if blocks := _blocks_named(name, groups):
        if len(blocks) > 1 and not _is_pattern(name):
            _raise_ambiguous(name, argument, [f"{block.backbone}/{block.name}" for block in blocks])
        return [layer for block in blocks for layer in block.layers]
    if name == "head" and argument == "freeze":
        return list(groups.head.layers)
    found = [(b, layer) for b in groups.blocks for layer in b.layers if _fits(name, layer.name, b.backbone)]
    if _is_pattern(name) and found:
        return [layer for _, layer in found]
    if len(found) > 1:
        _raise_ambiguous(name, argument, [f"{block.backbone}/{layer.name}" for block, layer in found])
    if not found:
        _raise_unknown(name, groups, argument)
    block, layer = found[0]
    return _from_here_up(block, layer, groups) if upwards else [layer]


def _from_here_up(block: LayerGroup, layer: Any, groups: LayerGroups) -> list[Any]:
    start = next(i for i, unit in enumerate(block.layers) if unit is layer)
    above = [b for b in groups.blocks if b.backbone == block.backbone and b.depth < block.depth]
    return [*block.layers[start:], *(unit for b in above for unit in b.layers)]


def _blocks_named(selection: str | Sequence[str], groups: LayerGroups) -> list[LayerGroup]:
    """The blocks that a name, a pattern or a list of them fits."""
    names = [selection] if isinstance(selection, str) else selection
    return [block for block in groups.blocks if any(_fits(name, block.name, block.backbone) for name in names)]


def _fits(pattern: str, name: str, backbone: str) -> bool:
    return any(fnmatch.fnmatchcase(full, pattern) for full in (name, f"{backbone}/{name}"))


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _raise_ambiguous(name: str, argument: str, candidates: Sequence[str]) -> None:
    raise ScheduleError(f"`{argument}`: {name!r} is ambiguous. Write one of {_listed(candidates)}")


def _raise_unknown(name: str, groups: LayerGroups, argument: str) -> None:
    blocks = [block.name for block in groups.blocks]
    layers = [layer.name for block in groups.blocks for layer in block.layers if layer.weights]
    near = [b for b in blocks if b.startswith(name)] or difflib.get_close_matches(name, [*blocks, *layers], n=3)
    hint = f" Did you mean {_listed(near)}" + (f", or {name + '*'!r}?" if len(near) > 3 else "?") if near else ""
    raise ScheduleError(
        f"`{argument}` must name a block or a layer of the backbone. Received: {name!r}.{hint} "
        f"The blocks: {_listed(blocks)}"
    )


def _listed(names: Sequence[str]) -> str:
    """Names as a message shows them."""
    shown = [repr(name) for name in names]
    if not shown:
        return "none"
    return ", ".join(shown if len(shown) <= 24 else [*shown[:8], "…", *shown[-12:]])


# Errors


@contextmanager
def _naming(index: int, stage: Stage) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ScheduleError(f"Stage {index + 1} ({stage.name!r}): {error}") from None


def _check_freeze(stage: Stage, added: set[int], removed: set[int], training: set[int]) -> None:
    if removed & added:
        raise ScheduleError(f"`freeze` and `unfreeze` overlap. Received: {stage.freeze!r} and {stage.unfreeze!r}")
    if removed and not removed & training:
        raise ScheduleError(f"`freeze` must name what trains so far. Received: freeze={stage.freeze!r}")


def _check_change(one: ResolvedStage, previous: ResolvedStage | None) -> None:
    if not one.variables:
        raise ScheduleError(
            "nothing trains: the model has no head with trainable weights outside its backbone, or it is frozen. "
            "Set `layer.trainable = True` on the head's layers, or give the first stage `unfreeze`."
        )
    if previous is None:
        return
    same = [id(v) for v in one.variables] == [id(v) for v in previous.variables]
    names_more = one.stage.unfreeze is not None or one.stage.freeze is not None
    same_rates = one.stage.learning_rate is None and one.factors == previous.factors
    if same and (names_more or same_rates):
        raise ScheduleError(
            "the stage changes nothing: the same variables train as before"
            + (
                "."
                if names_more
                else ", at the same learning rate. Leave it out, or let the stage before it last longer."
            )
        )
