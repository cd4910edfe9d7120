"""What caching gains and costs, stage by stage, before anything is computed."""

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.files import format_bytes
from kerasxfer_serving.notebook import html_table
from numpy.typing import NDArray

from kerasxfer.bottleneck.boundary import Boundary, find_boundary
from kerasxfer.bottleneck.graph import Graph, GraphStep
from kerasxfer.types import Tensor

LEAST_GAIN = 1.1


@dataclass(frozen=True)
class StagePlan:
    """The decision for one stage.

    Args:
        stage: Its name.
        boundary: Where it would be cached.
        decision: `"cache"`, `"cache earlier"` (nearer to the input, where the budget allows it) or `"don't cache"`.
        why: The reason.
        row_bytes: Size of one image's features.
        size: Bytes of all features.
        gain: End-to-end cost of an epoch over its cost from the cache, by counting operations.
    """

    stage: str
    boundary: Boundary
    decision: str
    why: str
    row_bytes: int
    size: int
    gain: float

    @property
    def cached(self) -> bool:
        """Whether this stage trains on features."""
        return self.decision != "don't cache"

    @property
    def speed(self) -> str:
        """The gain in words: where only a head is left, counting operations says no more than that it is large."""
        return f"about {self.gain:.1f}x" if self.gain < 100 else "over 100x"

    def __str__(self) -> str:
        if not self.cached:
            return f"Stage '{self.stage}' trains on the images: {self.why}."
        return (
            f"Stage '{self.stage}' trains from `{self.boundary.name}`: {format_bytes(self.row_bytes)} an image, "
            f"{format_bytes(self.size)}, {self.speed} per epoch."
        )


@dataclass(frozen=True)
class CachePlan:
    """A schedule's plan, one `StagePlan` for each stage; `print` shows it as a table."""

    stages: tuple[StagePlan, ...]
    pictures: int
    notes: tuple[str, ...] = field(default=())

    @property
    def size(self) -> int:
        """Bytes of all shelves; a boundary shared by stages counts once."""
        return sum({stage.boundary.position: stage.size for stage in self.stages if stage.cached}.values())

    @property
    def positions(self) -> list[int]:
        """The boundaries that are cached, from the input on."""
        return sorted({stage.boundary.position for stage in self.stages if stage.cached})

    @property
    def first_position(self) -> int:
        """Where the first stage trains from; 0 is the images."""
        return self.stages[0].boundary.position if self.stages[0].cached else 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table, for printing or JSON."""
        return [
            {
                "stage": stage.stage,
                "boundary": stage.boundary.name,
                "shape": "x".join(map(str, stage.boundary.shape)),
                "KB/picture": round(stage.row_bytes / 1e3, 1),
                "size": format_bytes(stage.size),
                "gain per epoch": stage.speed,
                "decision": stage.decision,
                "why": stage.why,
            }
            for stage in self.stages
        ]

    def __str__(self) -> str:
        table = [list(self.rows[0]), *([str(value) for value in row.values()] for row in self.rows)]
        widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join([*lines, *self._remarks()])

    def _repr_html_(self) -> str:
        return html_table(self.rows, caption=" ".join(self._remarks()), most=len(self.stages))

    def _remarks(self) -> list[str]:
        return [f"{self.pictures} images, {format_bytes(self.size)} in all.", *self.notes]


def plan_stages(
    graph: Graph,
    stages: Sequence[tuple[str, Collection[int]]],
    rows: int,
    room: float,
    *,
    storage: str | None = None,
    augmentation: bool = False,
) -> list[StagePlan]:
    """Decide for each stage, in order; boundaries that stages share are stored once.

    Args:
        graph: The model's graph.
        stages: Name and trained ids of each stage, see `boundary.trained_now`.
        rows: Images, copies counted.
        room: Bytes that may be used.
        storage: Storage dtype. Defaults to `None`, the boundary's own.
        augmentation: Whether augmentation is cached as copies. Defaults to `False`.
    """
    plans: list[StagePlan] = []
    chosen: set[int] = set()
    for name, trained in stages:
        boundary = find_boundary(graph, trained, augmentation=augmentation)
        best = _plan_stage(graph, name, boundary, trained, rows, room, chosen, storage)
        if best.cached and best.boundary.position not in chosen:
            chosen.add(best.boundary.position)
            room -= best.size
        plans.append(best)
    return plans


def _plan_stage(
    graph: Graph,
    name: str,
    boundary: Boundary,
    trained: Collection[int],
    rows: int,
    room: float,
    chosen: Collection[int],
    storage: str | None,
) -> StagePlan:
    def at(position: int, decision: str, why: str) -> StagePlan:
        size = row_bytes(graph, position, storage)
        gain = gain_per_epoch(graph, position, trained)
        return StagePlan(name, replace(boundary, position=position), decision, why, size, size * rows, gain)

    here = at(boundary.position, "cache", f"`{boundary.blocker}` {boundary.reason}")
    if not boundary.worthwhile:
        return replace(here, decision="don't cache", why=f"nothing frozen lies before `{boundary.blocker}`")
    if here.gain < LEAST_GAIN:
        return replace(here, decision="don't cache", why="almost all of the work lies behind the boundary")
    if boundary.position in chosen or here.size <= room:
        return here
    earlier = [
        at(cut, "cache earlier", "the boundary itself is over the budget")
        for cut in graph.single_tensor_cuts()
        if 0 < cut < boundary.position
    ]
    fitting = [plan for plan in earlier if plan.boundary.position in chosen or plan.size <= room]
    best = max(fitting, key=lambda plan: plan.gain, default=here)
    if best is here or best.gain < LEAST_GAIN:
        why = f"needs {format_bytes(here.size)}, over the budget or the disk"
        return replace(here, decision="don't cache", why=why)
    return best


def storage_dtype(tensor: Tensor, storage: str | None = None) -> np.dtype[Any]:
    """Dtype that a tensor's values are stored in; NumPy has no bfloat16, and float32 holds all of its values."""
    return np.dtype(storage or ("float32" if tensor.dtype == "bfloat16" else tensor.dtype))


def row_bytes(graph: Graph, position: int, storage: str | None = None) -> int:
    """Size of one image's features."""
    tensor = graph.cut(position)
    return int(math.prod(size or 1 for size in tensor.shape[1:])) * storage_dtype(tensor, storage).itemsize


def gain_per_epoch(graph: Graph, position: int, trained: Collection[int]) -> float:
    """Cost of an epoch end to end over that of the suffix: `(P + C) / C` by counting multiplications.

    Args:
        graph: The model's graph.
        position: The boundary.
        trained: Ids of the trained variables.
    """
    prefix = sum(operations(step) for step in graph.steps[:position])
    suffix, started = 0.0, False
    for step in graph.steps[position:]:
        trains = any(id(variable) in trained for variable in step.variables)
        # The gradient goes back through every step after the first that is trained, and into the weights of those.
        suffix += operations(step) * (1 + started + trains)
        started |= trains
    return (prefix + suffix) / max(suffix, 1.0)


def operations(step: GraphStep) -> float:
    """Multiplications and additions of one image's forward pass through a step, roughly."""
    shape = [size or 1 for size in step.output_tensors[0].shape[1:]]
    kernels = [variable for variable in step.variables if len(variable.shape) >= 2]
    if not kernels:
        return float(math.prod(shape))
    channels = 0 if getattr(step.operation, "data_format", None) == "channels_first" else -1
    places = math.prod(shape) / shape[channels]
    return float(sum(2.0 * math.prod(kernel.shape) * places for kernel in kernels))


def seconds_per_image(model: keras.Model, images: NDArray[Any]) -> float:
    """Time of the forward pass on this machine."""
    model.predict_on_batch(images)  # compiles
    start = time.perf_counter()
    model.predict_on_batch(images)
    return (time.perf_counter() - start) / len(images)
