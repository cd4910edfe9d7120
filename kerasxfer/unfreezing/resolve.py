"""Stages against a model: which layers and variables train in each, in which mode, at which share of the rate."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

from kerasxfer.unfreezing.groups import LayerGroup, LayerGroups, layer_groups, parts
from kerasxfer.unfreezing.selection import blocks_named, listed, select
from kerasxfer.unfreezing.stages import ScheduleError, Stage

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
    _check_ends(stages)
    groups = layer_groups(model)
    training = {id(layer) for layer in groups.head.layers}
    resolved: list[ResolvedStage] = []
    for index, stage in enumerate(stages):
        with _naming(index, stage):
            added = _added(stage, groups, training)
            removed = {id(layer) for layer in select(stage.freeze, groups, "freeze")}
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
    training_blocks = [block for block in groups.blocks if _holds(block, trained)]
    return ResolvedStage(
        stage=stage,
        index=index,
        blocks=tuple(
            group.name
            for group in groups.blocks
            if any(id(w) in trained for unit in group.layers for w in unit.weights)
        ),
        layers=layers,
        variables=variables,
        factors=tuple(decay ** depth.get(id(variable), 0) for variable in variables),
        shares={block.name: decay**block.depth for block in training_blocks},
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
    chosen = select(stage.unfreeze, groups, "unfreeze")
    if stage.unfreeze is not None and isinstance(stage.unfreeze, (str, tuple)) and stage.unfreeze != "all":
        for block in blocks_named(stage.unfreeze, groups):
            if all(id(layer) in training for layer in block.layers if layer.weights):
                raise ScheduleError(
                    f"`unfreeze` overlaps: {block.name!r} trains already. Received: unfreeze={stage.unfreeze!r}. "
                    f"Still frozen: {listed([b.name for b in groups.blocks if not _trains(b, training)])}"
                )
    return {id(layer) for layer in chosen}


def _trains(block: LayerGroup, training: set[int]) -> bool:
    return all(id(layer) in training for layer in block.layers if layer.weights)


# Errors


def _check_ends(stages: Sequence[Stage]) -> None:
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise ScheduleError(f"`stages` must be a list of at least one `Stage`. Received: stages={stages!r}")
    for index, stage in enumerate(stages[:-1]):
        if stage.open_ended:
            raise ScheduleError(
                f"Stage {index + 1} ({stage.name!r}): only the last stage may be open-ended. "
                "Give it `epochs`, `patience` or both."
            )


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
