"""One pass over the images that fills every shelf of a schedule, if there is room for what is missing."""

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.files import format_bytes
from numpy.typing import NDArray

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.graph import Graph
from kerasxfer.bottleneck.sources import ImageSource, Item, items_of, shards_of
from kerasxfer.bottleneck.store import SHARD_BYTES, Shelf, existing_parent

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Tap:
    """A boundary of the schedule and the shelf that its features go to."""

    position: int
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    shelf: Shelf

    @property
    def row_bytes(self) -> int:
        """Size of one image's features."""
        return int(math.prod(self.shape)) * self.dtype.itemsize


def shard_rows(taps: Sequence[Tap], batch_size: int, shard_bytes: int) -> int:
    """Rows of a shard: about `shard_bytes` at the largest boundary, in whole batches."""
    rows = shard_bytes // max(tap.row_bytes for tap in taps)
    return max(1, rows // batch_size) * batch_size


def _refuse_too_large(missing: dict[Tap, list[Item]]) -> None:
    """Raise a `CacheError` if the disk has no room for what is missing."""
    sizes = {tap: tap.row_bytes * len(items) for tap, items in missing.items()}
    needed = int(sum(sizes.values()) * 1.01)
    folder = existing_parent(next(iter(sizes)).shelf.path)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CacheError(
            f"The features need {format_bytes(needed)}, and '{folder}' has {format_bytes(free)} left. Free some space, "
            "name another directory, or store half as much with `dtype='float16'` (not exact)."
        )


class Builder:
    """Computes what is missing and writes it shard by shard.

    Args:
        graph: The model's graph.
        taps: The boundaries.
        augmented: Steps at the front that augment; they run in training mode for copies.
        jit_compile: Whether the prefix is compiled; as the model is, for the same results. Defaults to `None`, Keras'
            own choice.
        seed: Seed of the augmented copies. Defaults to `0`.
        shard_bytes: About how large a shard becomes. Defaults to 128 MiB.
        verbose: Whether to show progress. Defaults to `1`.
    """

    def __init__(
        self,
        graph: Graph,
        taps: Sequence[Tap],
        *,
        augmented: int = 0,
        jit_compile: bool | None = None,
        seed: int = 0,
        shard_bytes: int = SHARD_BYTES,
        verbose: int = 1,
    ) -> None:
        self._taps = list(taps)
        self._there: dict[Tap, set[str]] = {}
        self._seed = seed
        self._shard_bytes = shard_bytes
        self._verbose = verbose
        self._augment = graph.model(0, [augmented]) if augmented else None
        self._prefix = graph.model(0, [tap.position for tap in taps])
        self._body = graph.model(augmented, [tap.position for tap in taps]) if augmented else self._prefix
        for model in (self._prefix, self._body):
            if jit_compile is not None:
                model.jit_compile = jit_compile

    def run(self, source: ImageSource, copies: int = 0, shard: tuple[int, int] | None = None) -> int:
        """Fill the shelves.

        Args:
            source: The images.
            copies: Number of augmented copies of each; 0 for the plain images. Defaults to `0`.
            shard: `(i, n)` computes only every n-th shard from the i-th on, for n builders on one directory.

        Returns:
            Number of images (and copies) computed.
        """
        items = items_of(source, copies)
        self._there = {tap: tap.shelf.keys() for tap in self._taps}
        missing = self._missing(items)
        if not missing:
            return 0
        _refuse_too_large(missing)
        keys = {item.key for tap_items in missing.values() for item in tap_items}
        todo = [item for item in items if item.key in keys]
        size = shard_rows(self._taps, source.batch_size, self._shard_bytes)
        with progress(self._verbose, len(todo), ", ".join(tap.name for tap in self._taps)) as advance:
            stream = source.stream(np.array([item.row for item in todo]))
            if stream is None:
                return self._run_plan(source, items, size, shard, advance)
            by_row = {item.row: item for item in todo}
            batches = (([by_row[int(row)] for row in rows], images) for rows, images in stream)
            self._write(source, ahead(batches), missing, advance, size)
            return len(todo)

    def _run_plan(
        self, source: ImageSource, items: Sequence[Item], size: int, shard: tuple[int, int] | None, advance: Any
    ) -> int:
        """Go through the shards of a plan that depends on the images alone, and come back to those others work on."""
        plan = shards_of(items, size, shard)
        done = 0
        while plan:
            postponed = []
            for chunk in plan:
                missing = self._missing(chunk)
                if not missing:
                    continue
                tap, its = next(iter(missing.items()))
                with tap.shelf.lock([item.key for item in its]) as ours:
                    if ours:
                        done += self._compute(source, chunk, advance)
                    else:
                        postponed.append(chunk)
            if postponed and len(postponed) == len(plan):
                time.sleep(_POLL_SECONDS)
            plan = postponed
        return done

    def _compute(self, source: ImageSource, chunk: Sequence[Item], advance: Any) -> int:
        missing = self._missing(chunk)  # once more: another builder may have just finished it
        keys = {item.key for items in missing.values() for item in items}
        todo = [item for item in chunk if item.key in keys]
        self._write(source, ahead(_load(source, todo)), missing, advance)
        return len(todo)

    def _write(
        self,
        source: ImageSource,
        batches: Iterable[tuple[list[Item], NDArray[Any]]],
        missing: dict[Tap, list[Item]],
        advance: Any,
        size: float = math.inf,
    ) -> None:
        """Run batches through the prefix and write a shard for each tap, or one every `size` rows."""
        wanted = {tap: {item.key for item in items} for tap, items in missing.items()}
        pending: dict[Tap, list[tuple[list[str], NDArray[Any]]]] = {tap: [] for tap in missing}
        for items, images in batches:
            for tap, features in zip(self._taps, self.forward(images, items, source.batch_size), strict=True):
                here = [k for k, item in enumerate(items) if item.key in wanted.get(tap, ())]
                if here:
                    its = [items[k] for k in here]
                    pending[tap].append(([item.key for item in its], self._checked(source, tap, its, features[here])))
            advance(len(items))
            for tap, parts in pending.items():
                if sum(len(keys) for keys, _ in parts) >= size:
                    self._flush(tap, parts)
        for tap, parts in pending.items():
            self._flush(tap, parts)

    def _flush(self, tap: Tap, parts: list[tuple[list[str], NDArray[Any]]]) -> None:
        if parts:
            keys = [key for keys, _ in parts for key in keys]
            tap.shelf.write(keys, np.concatenate([features for _, features in parts]))
            self._there[tap].update(keys)
            parts.clear()

    def forward(self, images: NDArray[Any], items: Sequence[Item], batch_size: int) -> list[NDArray[Any]]:
        """Features of some images, one array for each tap."""
        count = len(images)
        if count < batch_size:  # one shape, one compilation
            images = np.concatenate([images, np.repeat(images[-1:], batch_size - count, axis=0)])
        prefix = self._prefix
        if self._augment is not None and items[0].copy is not None:
            images, prefix = self._augmented(images, items), self._body
        outputs = prefix.predict_on_batch(images)
        outputs = outputs if len(self._taps) > 1 else [outputs]
        return [keras.ops.convert_to_numpy(features)[:count] for features in outputs]

    def _augmented(self, images: NDArray[Any], items: Sequence[Item]) -> NDArray[Any]:
        """Run the augmenting layers in training mode, their generators seeded by the cache's seed and the images."""
        assert self._augment is not None
        text = " ".join(item.key for item in items)
        words = np.random.SeedSequence([self._seed, *text.encode()]).generate_state(2 * len(self._augment.variables))
        states = [
            words[2 * k : 2 * k + 2].reshape(variable.shape).astype(variable.dtype)
            if variable.name == "seed_generator_state"
            else variable.value
            for k, variable in enumerate(self._augment.non_trainable_variables)
        ]
        outputs, _ = self._augment.stateless_call([], states, keras.ops.convert_to_tensor(images), training=True)
        return np.asarray(keras.ops.convert_to_numpy(outputs))

    def _checked(self, source: ImageSource, tap: Tap, items: Sequence[Item], features: NDArray[Any]) -> NDArray[Any]:
        """Features in the storage dtype; an error for what cannot be stored or trained on."""
        with np.errstate(over="ignore"):
            stored = features.astype(tap.dtype)
        if np.isfinite(stored).all():
            return stored
        row = items[int(np.flatnonzero(~np.isfinite(stored.reshape(len(stored), -1)).all(axis=1))[0])].row
        if np.isfinite(features).all():
            raise CacheError(
                f"The features at `{tap.name}` overflow {tap.dtype.name}: they reach {np.abs(features).max():.4g} for "
                f"{source.label(row)}. Store them exactly: `BottleneckCache(directory, dtype=None)`."
            )
        raise CacheError(
            f"The model gives NaN or infinity at `{tap.name}` for {source.label(row)}. Look at this image and at the "
            "weights; nothing could be trained on it."
        )

    def _missing(self, items: Sequence[Item]) -> dict[Tap, list[Item]]:
        found = {}
        for tap, there in self._there.items():
            absent = [item for item in items if item.key not in there]
            if absent and tap.shelf.has_shard([item.key for item in absent]):  # another builder has finished it
                there.update(item.key for item in absent)
            elif absent:
                found[tap] = absent
        return found


def ahead(iterator: Iterable[Any]) -> Iterator[Any]:
    """Iterate with one item fetched in the background."""
    items = iter(iterator)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, items, None)
        while (item := future.result()) is not None:
            future = pool.submit(next, items, None)
            yield item


def _load(source: ImageSource, items: Sequence[Item]) -> Iterator[tuple[list[Item], NDArray[Any]]]:
    """Images in batches; a batch is of one copy."""
    size = source.batch_size
    for copy in dict.fromkeys(item.copy for item in items):
        its = [item for item in items if item.copy == copy]
        for k in range(0, len(its), size):
            batch = its[k : k + size]
            yield batch, source.images(np.array([item.row for item in batch]), copy)


@contextlib.contextmanager
def progress(verbose: int, total: int, name: str) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left, on stderr.

    Args:
        verbose: 0 for none.
        total: Number of images.
        name: What is cached.

    Yields:
        A function to be called with the number of images that have been done.
    """
    if not verbose:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    start = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"Caching {name}", total=total, rate="")

        def advance(count: int) -> None:
            done = bar.tasks[0].completed + count
            bar.update(task, completed=done, rate=f"{done / (time.perf_counter() - start):.1f} images/s")

        yield advance
