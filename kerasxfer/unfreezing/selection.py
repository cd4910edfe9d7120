"""What the names, patterns, numbers and fractions of a stage mean in a model."""

import difflib
import fnmatch
import math
from collections.abc import Sequence
from typing import Any

from kerasxfer.unfreezing.groups import LayerGroup, LayerGroups
from kerasxfer.unfreezing.stages import ScheduleError


def select(selection: str | int | float | Sequence[str] | None, groups: LayerGroups, argument: str) -> list[Any]:
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
            f"Received: unfreeze={selection}. The blocks: {listed([block.name for block in groups.blocks])}"
        )
    depth = {name: selection if isinstance(selection, int) else math.ceil(selection * n) for name, n in most.items()}
    return [block for block in groups.blocks if block.depth <= depth[block.backbone]]


def _named(name: str, groups: LayerGroups, argument: str, upwards: bool) -> list[Any]:
    if blocks := blocks_named(name, groups):
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


def blocks_named(selection: str | Sequence[str], groups: LayerGroups) -> list[LayerGroup]:
    """The blocks that a name, a pattern or a list of them fits."""
    names = [selection] if isinstance(selection, str) else selection
    return [block for block in groups.blocks if any(_fits(name, block.name, block.backbone) for name in names)]


def _fits(pattern: str, name: str, backbone: str) -> bool:
    return any(fnmatch.fnmatchcase(full, pattern) for full in (name, f"{backbone}/{name}"))


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _raise_ambiguous(name: str, argument: str, candidates: Sequence[str]) -> None:
    raise ScheduleError(f"`{argument}`: {name!r} is ambiguous. Write one of {listed(candidates)}")


def _raise_unknown(name: str, groups: LayerGroups, argument: str) -> None:
    blocks = [block.name for block in groups.blocks]
    layers = [layer.name for block in groups.blocks for layer in block.layers if layer.weights]
    near = [b for b in blocks if b.startswith(name)] or difflib.get_close_matches(name, [*blocks, *layers], n=3)
    hint = f" Did you mean {listed(near)}" + (f", or {name + '*'!r}?" if len(near) > 3 else "?") if near else ""
    raise ScheduleError(
        f"`{argument}` must name a block or a layer of the backbone. Received: {name!r}.{hint} "
        f"The blocks: {listed(blocks)}"
    )


def listed(names: Sequence[str]) -> str:
    """Names as a message shows them."""
    shown = [repr(name) for name in names]
    if not shown:
        return "none"
    return ", ".join(shown if len(shown) <= 24 else [*shown[:8], "…", *shown[-12:]])
