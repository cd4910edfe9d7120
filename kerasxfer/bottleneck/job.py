"""One model, one data set, one schedule: what is cached for them, and getting it, proved before each stage.

The proof: the prefix gives what is stored, even in training, and the suffix what the model gives. That proves the
gradients too. The suffix is made of the model's own layers on the model's own variables, so its loss is the same
function of what is trained as the model's, and backpropagation never goes past the boundary: nothing that is trained
lies before it. (Whether the steps that follow are the same, to the bit, is for the tests to compare.)
"""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasxfer.bottleneck.boundary import augmenting_steps, refuse_useless, trained_now
from kerasxfer.bottleneck.builder import Builder, Tap
from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.fingerprint import canonical_config, code_hash, fingerprint, platform
from kerasxfer.bottleneck.graph import Graph, trace
from kerasxfer.bottleneck.planner import CachePlan, plan_stages, storage_dtype
from kerasxfer.bottleneck.shards import Features
from kerasxfer.bottleneck.sources import ImageSource, copy_key, items_of
from kerasxfer.bottleneck.store import SHARD_BYTES, Shelf, existing_parent, size_of_all
from kerasxfer.types import Tensor

_CHECKED = 4  # images whose features are computed again when a stage starts

_REMEDY = "Train with `model.fit`, or leave the layer that does so out of the frozen part."


@dataclass(frozen=True)
class Settings:
    """The arguments of `BottleneckCache` that decide what is stored."""

    directory: Path
    dtype: str | None
    budget: float
    copies: int
    seed: int
    verbose: int
    shard_bytes: int = SHARD_BYTES


class CacheJob:
    """Plans, builds and opens the features of one model.

    Args:
        settings: Those of the cache.
        model: The model; its weights are read whenever a fingerprint is needed, as they may change.
        stages: A list of `Stage`. Defaults to `None`, one stage that trains what is trainable now.
    """

    def __init__(self, settings: Settings, model: keras.Model, stages: Sequence[Any] | None = None) -> None:
        self.settings = settings
        self.model = model
        self.graph = trace(model)
        self.stages = trained_by_stage(model, self.graph, stages)
        self.augmented = augmenting_steps(self.graph)
        self._suffixes: dict[int, keras.Model] = {}
        self._opened: dict[int, tuple[str, Features]] = {}  # by source: the last

    def copies(self, source: ImageSource) -> int:
        """Copies to cache of a training set; refuses augmentation without copies, and copies without augmentation."""
        copies = self.settings.copies
        if source.in_batches_only:
            raise CacheError(
                f"The data set {source.in_batches_only}, so no store of features holds what it trains on. Leave that "
                "out, or train with `model.fit`."
            )
        if copies and not (source.random or self.augmented):
            raise CacheError(
                "`copies` needs random augmentation: `ImageFolder(augmentation=…)` or random layers at the front of "
                f"the model. Received: copies={copies}, and neither of them; leave `copies` out."
            )
        if source.random and not copies:
            raise CacheError(
                "The data set augments at random, so its images differ in each epoch. Either cache a number of "
                "augmented copies, `BottleneckCache(directory, copies=K)`, or leave out `augmentation` and cache the "
                "plain images."
            )
        return copies

    def plan(self, source: ImageSource, validation: ImageSource | None = None) -> CachePlan:
        """Decide where each stage is cached."""
        copies = self.copies(source)
        rows = len(items_of(source, copies)) + (len(items_of(validation, 0)) if validation else 0)
        plan = self.decide(rows, augmentation=bool(copies))
        if not any(stage.boundary.worthwhile for stage in plan.stages):
            refuse_useless(self.model, plan.stages[0].boundary)
        return plan

    def decide(self, rows: int, *, augmentation: bool) -> CachePlan:
        """The plan for a number of images, useful or not."""
        directory = self.settings.directory
        free = shutil.disk_usage(existing_parent(directory)).free
        room = min(self.settings.budget, size_of_all(directory) + free)
        storage = self.settings.dtype
        plans = plan_stages(self.graph, self.stages, rows, room, storage=storage, augmentation=augmentation)
        return CachePlan(tuple(plans), rows)

    def known_beforehand(self, plan: CachePlan) -> list[int]:
        """Boundaries whose prefix no earlier stage trains: their features can be computed before the fit."""
        positions, trained = set(), set[int]()
        for stage, (_, ids) in zip(plan.stages, self.stages, strict=True):
            position = stage.boundary.position
            prefix = {id(variable) for step in self.graph.steps[:position] for variable in step.variables}
            if stage.cached and not prefix & trained:
                positions.add(position)
            trained |= ids
        return sorted(positions)

    def taps(self, positions: Sequence[int], source: ImageSource, copies: int) -> list[Tap]:
        """The boundaries with the shelves that belong to the present weights."""
        conditions: dict[str, Any] = {**source.conditions, "jit_compile": bool(self.model.jit_compile)}
        if copies and self.augmented:
            front = [step.operation for step in self.graph.steps[: self.augmented]]
            layers = [[canonical_config(operation), code_hash(operation)] for operation in front]
            conditions.update(augmentation_layers=layers, copies_seed=self.settings.seed)
        taps = []
        for position in positions:
            tensor = self.graph.cut(position)
            dtype = storage_dtype(tensor, self.settings.dtype)
            digest = fingerprint(self.graph, position, dtype=dtype.name, **conditions)
            name = self.graph.steps[position - 1].operation.name
            taps.append(Tap(position, name, tuple(tensor.shape[1:]), dtype, Shelf(self.settings.directory, digest)))
        return taps

    def build(
        self, positions: Sequence[int], source: ImageSource, copies: int, shard: tuple[int, int] | None = None
    ) -> list[Tap]:
        """Compute what is missing at some boundaries, in one pass."""
        taps = self.taps(positions, source, copies)
        wanted = {item.key for item in items_of(source, copies)}
        if not any(wanted - tap.shelf.keys() for tap in taps):
            return taps
        builder = Builder(
            self.graph,
            taps,
            augmented=self.augmented if copies else 0,
            jit_compile=bool(self.model.jit_compile),
            seed=self.settings.seed,
            shard_bytes=self.settings.shard_bytes,
            verbose=self.settings.verbose,
        )
        with contextlib.ExitStack() as building:
            for tap in taps:
                building.enter_context(tap.shelf.building(self._manifest(tap, source)))
            builder.run(source, copies, shard)
        return taps

    def _manifest(self, tap: Tap, source: ImageSource) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "boundary": tap.name,
            "shape": tap.shape,
            "dtype": tap.dtype.name,
            "platform": platform(),
            "pictures": source.conditions,
        }

    def suffix(self, position: int) -> keras.Model:
        """The model from a boundary on; always the same one."""
        if position not in self._suffixes:
            self._suffixes[position] = self.graph.model(position)
        return self._suffixes[position]

    def features(self, position: int, source: ImageSource, copies: int) -> Features:
        """Features of a boundary for the present weights, computed if they are missing or damaged, and proved."""
        (tap,) = self.build([position], source, copies)
        opened = self._opened.get(id(source))
        if opened is None or opened[0] != tap.shelf.fingerprint:
            keys = source.keys
            features = tap.shelf.open([copy_key(key, k) for k in range(copies) for key in keys] if copies else keys)
            self._check(position, source, copies, features)
            opened = self._opened[id(source)] = tap.shelf.fingerprint, features
        return opened[1]

    def _check(self, position: int, source: ImageSource, copies: int, features: Features) -> None:
        if self.augmented:  # random layers in front would differ, as they should
            return
        rows = np.arange(min(_CHECKED, len(source.keys)))
        images = source.images(rows, 0 if copies else None)
        computed = check_features(self.graph, position, images, features.read(rows))
        if position < len(self.graph.steps):
            check_suffix(self.model, self.suffix(position), images, computed)


def trained_by_stage(model: keras.Model, graph: Graph, stages: Sequence[Any] | None) -> list[tuple[str, set[int]]]:
    """Name and ids of what is trained, for each stage of a schedule; for none, what is trainable now."""
    if not stages:
        return [("fit", trained_now(model, graph))]
    from kerasxfer.unfreezing import resolve

    return [(stage.name, {id(part) for part in (*stage.variables, *stage.layers)}) for stage in resolve(stages, model)]


def schedule_of(callbacks: Sequence[Any]) -> Sequence[Any] | None:
    """The stages of the `ProgressiveUnfreezing` among the callbacks."""
    from kerasxfer.callbacks import ProgressiveUnfreezing

    return next((callback.stages for callback in callbacks if isinstance(callback, ProgressiveUnfreezing)), None)


def check_features(graph: Graph, position: int, images: NDArray[Any], stored: NDArray[Any]) -> Any:
    """Compare stored features with those of the prefix as it runs within `fit`.

    What a layer of one's own does in training cannot be seen in its configuration; this finds it out.

    Args:
        graph: The model's graph.
        position: The boundary.
        images: A few images.
        stored: Their features in the cache.

    Returns:
        The features as computed here.

    Raises:
        CacheError: If they differ, or if the prefix changes its state or adds a loss in training.
    """
    prefix = graph.model(0, [position])
    before = [variable.value for variable in prefix.non_trainable_variables]
    values = [variable.value for variable in prefix.trainable_variables]
    outputs, after, losses = prefix.stateless_call(
        values, before, keras.ops.convert_to_tensor(images), training=True, return_losses=True
    )
    name = graph.steps[position - 1].operation.name
    for variable, old, new in zip(prefix.non_trainable_variables, before, after, strict=True):
        if not np.array_equal(keras.ops.convert_to_numpy(old), keras.ops.convert_to_numpy(new)):
            raise CacheError(f"The frozen part up to `{name}` changes `{variable.path}` in training. {_REMEDY}")
    if losses:
        raise CacheError(f"The frozen part up to `{name}` adds a loss of its own in training. {_REMEDY}")
    if difference := _difference(outputs, stored):
        raise CacheError(
            f"The features at `{name}` are not what the frozen part gives in training: they differ by {difference}. "
            f"{_REMEDY}"
        )
    return outputs


def check_suffix(model: keras.Model, suffix: keras.Model, images: NDArray[Any], features: Tensor) -> None:
    """Compare the answers of a model with those of its suffix, both in inference.

    Args:
        model: The model.
        suffix: The model from the boundary on.
        images: A few images.
        features: What the prefix makes of them.

    Raises:
        CacheError: If they differ.
    """
    answers = (model(keras.ops.convert_to_tensor(images), training=False), suffix(features, training=False))
    for whole, part in zip(*map(keras.tree.flatten, answers), strict=True):
        if difference := _difference(whole, keras.ops.convert_to_numpy(part)):
            raise CacheError(
                f"Model `{model.name}` does not answer as its layers do when they are called one by one: the answers "
                f"differ by {difference}. Train with `model.fit`."
            )


def _difference(computed: Any, expected: NDArray[Any]) -> str:
    """How far two results are apart, empty if that is rounding."""
    computed = keras.ops.convert_to_numpy(computed).astype("float64")
    largest = float(np.abs(computed).max())
    difference = float(np.abs(computed - expected).max())
    # Eager, compiled and stored results round differently; what is random or batch-dependent differs by far more.
    return "" if difference <= 1e-2 * max(1e-6, largest) else f"up to {difference:.3g} at values of up to {largest:.3g}"
