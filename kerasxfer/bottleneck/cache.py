"""`BottleneckCache`: train on cached activations at the freeze boundary."""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.files import parse_bytes

from kerasxfer.bottleneck import maintenance
from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.feeding import FeatureDataset, FeatureFeed, TrainingFeed, own_errors
from kerasxfer.bottleneck.job import CacheJob, Settings, schedule_of
from kerasxfer.bottleneck.planner import CachePlan, seconds_per_image
from kerasxfer.bottleneck.routing import Router, image_place, place_at, places_of
from kerasxfer.bottleneck.sources import as_source, items_of, split_validation, validation_source
from kerasxfer.types import Callbacks, Data, Scores

Rows = list[dict[str, Any]]


class BottleneckCache:
    """Trains the unfrozen part of a model on activations that are computed once and kept on disk.

    While the first layers of a model are frozen, what they compute from an image never changes. `fit` runs them once,
    stores the result where the frozen part ends, and then trains only the rest: the same losses and gradients as
    `model.fit`, several times faster. With `ProgressiveUnfreezing` among the callbacks, every stage trains from its own
    boundary, and one pass over the images fills them all.

    The cache never goes stale: features are looked up by the images' content, the frozen layers with their weights,
    arguments and code, the preprocessing, and the versions of Keras, backend and decoder. (Code that your layers call
    in other installed packages, and files that they read, are not included. A few images are computed again whenever a
    stage starts, which catches most changes in such code.) The cache survives kills and full disks, accepts new images
    one by one, and can be filled by several processes or machines and moved elsewhere.

    Args:
        directory: Folder for the features; many models and data sets can share it.
        dtype: Storage dtype. `"float16"` takes half the space but is not exact. Defaults to `None`, exact.
        budget: Size limit of the directory, such as `"20GB"` or a number of bytes; a stage that would exceed it is
            cached nearer to the input, where the features are smaller, or not at all. Defaults to `None`, the whole
            disk.
        copies: Number of augmented copies of each image, if the data set or the model augments at random. Epochs cycle
            through them: with as many copies as epochs, training equals `model.fit` with an augmenting `ImageFolder`;
            fewer copies mean fewer different images and less regularisation. Defaults to `0`.
        pooled: Whether `features` averages over the positions of the feature map. Defaults to `False`.
        seed: Seed of the order of arrays and of the augmented copies. Defaults to `0`.
        jit_compile: Whether XLA compiles the suffix. On TensorFlow, `"auto"` measures which is faster, unless the model
            was compiled with `jit_compile=False` or the fit is short. Defaults to `"auto"`.
        verbose: `0` for silence. Defaults to `1`.

    Example:

    ```python
    cache = kerasxfer.BottleneckCache("cache/")
    stages = [kerasxfer.Stage(epochs=5), kerasxfer.Stage("block5", learning_rate=1e-5)]
    history = cache.fit(
        model, train, validation_data=validation, epochs=20,
        callbacks=[kerasxfer.callbacks.ProgressiveUnfreezing(stages), keras.callbacks.ModelCheckpoint("best.keras")],
    )
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        dtype: str | None = None,
        budget: int | float | str | None = None,
        copies: int = 0,
        pooled: bool = False,
        seed: int = 0,
        jit_compile: bool | str = "auto",
        verbose: int = 1,
    ) -> None:
        if dtype is not None and not np.issubdtype(np.dtype(dtype), np.floating):
            raise UsageError(f"`dtype` must be None or a floating-point dtype. Received: dtype={dtype!r}")
        if copies < 0:
            raise UsageError(f"`copies` must be 0 or more. Received: copies={copies}")
        self.directory = Path(directory)
        self.pooled = pooled
        self.jit_compile = jit_compile
        self.verbose = verbose
        self.settings = Settings(self.directory, dtype, _limit(budget), copies, seed, verbose)

    def fit(
        self,
        model: keras.Model,
        x: Data = None,
        y: Data = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Callbacks = None,
        validation_split: float = 0.0,
        validation_data: Data = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Data = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> keras.callbacks.History:
        """Train `model` like `model.fit`, from cached features.

        It *is* `model.fit`, fed with features: callbacks, metrics, optimizer and `History` are the model's own.

        Args:
            model: A compiled functional or Sequential model with one input.
            x: `ImageFolder`, array, `PyDataset`, `tf.data.Dataset` or torch `DataLoader`.
            y: Labels, if `x` is an array.
            batch_size: Batch size, if `x` is an array. Defaults to `None`, 32.
            epochs: Epoch to stop at. Defaults to `1`.
            verbose: As in `model.fit`. Defaults to `"auto"`.
            callbacks: As in `model.fit`; they see the whole model. Defaults to `None`.
            validation_split: Fraction of the arrays, taken from the end, to validate on. Defaults to `0.0`.
            validation_data: As `x`, or a tuple of arrays. Defaults to `None`.
            shuffle: As in `model.fit`; arrays are shuffled by `(seed, epoch)`. Defaults to `True`.
            class_weight: As in `model.fit`. Defaults to `None`.
            sample_weight: Sample weights, if `x` is an array. Defaults to `None`.
            initial_epoch: As in `model.fit`. Defaults to `0`.
            steps_per_epoch: Batches per epoch; the next epoch continues from there. Defaults to `None`, all.
            validation_steps: Batches to validate on. Defaults to `None`, all.
            validation_batch_size: Batch size of validation arrays. Defaults to `None`, `batch_size`.
            validation_freq: As in `model.fit`. Defaults to `1`.

        Returns:
            The `History`.

        Raises:
            CacheError: If nothing can be cached exactly, or the cache cannot be written; the message names the layer or
                the folder, and the remedy.
        """
        if not model.compiled:
            raise UsageError("`model` must be compiled before it is fitted: call `model.compile`.")
        if self.pooled:
            raise UsageError("`pooled` is for `features`. A head that pools is cached after its pooling anyway.")
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split_validation((x, y, sample_weight), validation_split)
        callbacks = _listed(callbacks)
        source = as_source(
            x,
            y,
            sample_weight,
            model=model,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=self.settings.seed,
            limit=steps_per_epoch and steps_per_epoch * max(1, epochs - initial_epoch),
        )
        validation = None
        if validation_data is not None:
            validation = validation_source(
                validation_data, validation_batch_size or batch_size, validation_steps, model=model
            )
        job = CacheJob(self.settings, model, schedule_of(callbacks))
        plan = job.plan(source, validation)
        if not source.random_access and not all(stage.cached for stage in plan.stages):
            raise CacheError(
                "A stage that is not cached needs its images in any order: give an `ImageFolder`, arrays or a "
                f"`PyDataset`. Received: {type(x).__name__}, and the plan\n{plan}"
            )
        self._announce(plan, epochs)

        copies, known = job.copies(source), job.known_beforehand(plan)
        job.build(known, source, copies)
        if validation is not None:
            job.build(known, validation, 0)
        steps = epochs * (steps_per_epoch or len(source))
        sources = [(source, copies)] + ([(validation, 0)] if validation is not None else [])
        places = [image_place(sources), *places_of(job, plan, self.jit_compile, source.batch_size, steps)]
        feeds: list[FeatureFeed] = [TrainingFeed(source, places, copies, steps_per_epoch)]
        if validation is not None:
            feeds.append(FeatureFeed(validation, places))
        first = next(place for place in places if place.position == plan.first_position)
        router = Router(job.graph, first, places, feeds, job.features)
        with router.routed(model), own_errors(feeds):
            return model.fit(
                feeds[0],
                epochs=epochs,
                verbose=verbose,
                callbacks=[*callbacks, router],
                validation_data=feeds[1] if validation is not None else None,
                # Keras shuffles the order of a data set's batches itself, here as it would there.
                shuffle=shuffle and isinstance(x, keras.utils.PyDataset),
                class_weight=class_weight,
                initial_epoch=initial_epoch,
                validation_steps=validation_steps,
                validation_freq=validation_freq,
            )

    def evaluate(
        self,
        model: keras.Model,
        x: Data = None,
        y: Data = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Data = None,
        steps: int | None = None,
        callbacks: Callbacks = None,
        return_dict: bool = False,
    ) -> Scores:
        """Evaluate `model` like `model.evaluate`, from cached features of its currently frozen part.

        After `fit`, the features of its `validation_data` are cached, so only the layers that the last stage trained
        run.

        Args:
            model: As in `fit`.
            x: As in `fit`.
            y: Labels, if `x` is an array.
            batch_size: Batch size, if `x` is an array. Defaults to `None`, 32.
            verbose: As in `model.evaluate`. Defaults to `"auto"`.
            sample_weight: Sample weights, if `x` is an array. Defaults to `None`.
            steps: Batches to evaluate. Defaults to `None`, all.
            callbacks: As in `model.evaluate`. Defaults to `None`.
            return_dict: As in `model.evaluate`. Defaults to `False`.

        Returns:
            What `model.evaluate` returns.
        """
        source = validation_source((x, y, sample_weight), batch_size, steps, model=model)
        job = CacheJob(self.settings, model)
        arguments = {"steps": steps, "verbose": verbose, "callbacks": callbacks, "return_dict": return_dict}
        # Augmenting layers at the front let the images pass when nothing is trained.
        stage = job.decide(len(items_of(source, 0)), augmentation=True).stages[0]
        if not stage.cached:
            scores: Scores = model.evaluate(x, y, batch_size=batch_size, sample_weight=sample_weight, **arguments)
            return scores
        place = place_at(job, stage.boundary.position)
        feed = FeatureFeed(source, [place])
        router = Router(job.graph, place, [place], [feed], job.features)
        with router.routed(model), own_errors([feed]):
            scores = model.evaluate(feed, **arguments)
        return scores

    def plan(self, model: keras.Model, data: Data, stages: Sequence[Any] | None = None) -> CachePlan:
        """Show what would be cached, how large that is, what it saves and why, without training or writing anything.

        Args:
            model: The model.
            data: As `x` in `fit`.
            stages: A list of `Stage`. Defaults to `None`, what is trainable now.

        Returns:
            A `CachePlan`, also printed unless `verbose=0`.
        """
        job, source = CacheJob(self.settings, model, stages), as_source(data, model=model)
        plan = job.plan(source)
        if plan.positions:
            images = source.images(np.arange(min(source.batch_size, len(source.keys))))
            seconds = seconds_per_image(job.graph.model(0, plan.positions), images) * plan.pictures
            plan = replace(plan, notes=(f"Computing the features takes about {seconds:.0f} s on this machine.",))
        if self.verbose:
            print(plan)
        return plan

    def build(
        self,
        model: keras.Model,
        data: Data,
        stages: Sequence[Any] | None = None,
        *,
        shard: tuple[int, int] | None = None,
    ) -> CachePlan:
        """Compute the features of all stages without training.

        Args:
            model: The model.
            data: As `x` in `fit`.
            stages: A list of `Stage`. Defaults to `None`, what is trainable now.
            shard: `(i, n)`, `0 <= i < n`: compute only the i-th of n parts. Any number of processes or machines can
                fill one directory, each with its own part, in any order, as often as you like. Defaults to `None`.

        Returns:
            The `CachePlan` that was carried out.
        """
        if shard is not None and not 0 <= shard[0] < shard[1]:
            raise UsageError(f"`shard` must be (i, n) with 0 <= i < n. Received: shard={shard}")
        job, source = CacheJob(self.settings, model, stages), as_source(data, model=model)
        plan = job.plan(source)
        job.build(job.known_beforehand(plan), source, job.copies(source), shard)
        return plan

    def build_on_ray(
        self,
        model: keras.Model,
        data: Data,
        stages: Sequence[Any] | None = None,
        *,
        address: str | None = None,
        num_workers: int | None = None,
        gpus_per_worker: float = 0,
    ) -> CachePlan:
        """Compute the features of all stages on the workers of a Ray cluster, into the same files that `build` writes.

        The directory and the images must be on storage that all nodes share, given as absolute paths. If a worker or a
        node dies, only its current shards are lost.

        Args:
            model: As in `build`; its layers must be Keras's or kerasxfer's, so that the workers can load it.
            data: An `ImageFolder` or an array.
            stages: As in `build`. Defaults to `None`.
            address: Address of the cluster, or `"auto"`. Defaults to `None`: the environment variable `RAY_ADDRESS`;
                without it Ray is started on this machine.
            num_workers: Parts computed at the same time; they share the cluster's cores. Defaults to `None`: one per
                node or, with `gpus_per_worker`, as many as there are GPUs for.
            gpus_per_worker: GPUs per worker. Defaults to `0`.

        Returns:
            The `CachePlan` that was carried out.
        """
        from kerasxfer.bottleneck.ray_build import build_on_ray

        job = CacheJob(self.settings, model, stages)
        return build_on_ray(
            job, as_source(data, model=model), address=address, num_workers=num_workers, gpus_per_worker=gpus_per_worker
        )

    def features(self, prefix: keras.Model, data: Data) -> FeatureDataset:
        """Features of a data set, for a training loop of your own.

        Args:
            prefix: A model from images to features, such as `kerasxfer.split_at_boundary` returns.
            data: As `x` in `fit`.

        Returns:
            A data set of `(features, labels)` in the order of `data`, epoch by epoch; its `array()` gives the features
            of all rows in their fixed order.

        Example:

        ```python
        prefix, suffix = kerasxfer.split_at_boundary(model)
        suffix.compile("adam", "sparse_categorical_crossentropy")
        suffix.fit(cache.features(prefix, train), epochs=10)
        ```
        """
        if self.pooled and len(prefix.output_shape) > 2:
            pooling = f"GlobalAveragePooling{len(prefix.output_shape) - 2}D"
            prefix = keras.Model(prefix.inputs, getattr(keras.layers, pooling)()(prefix.outputs[0]))
        job, source = CacheJob(self.settings, prefix), as_source(data)
        return FeatureDataset(source, job.features(len(job.graph.steps), source, 0))

    def list(self) -> Rows:
        """List the sets of features in the directory, one row each: boundary, rows, bytes, platform, last use."""
        return maintenance.shelves(self.directory)

    def verify(self) -> Rows:
        """Check every shard against its hash; returns one row for each damaged or unfinished shard."""
        return maintenance.verify(self.directory)

    def gc(self, budget: int | float | str | None = None, older_than: float | None = None) -> Rows:
        """Remove leftovers of dead builders, then the least recently used features.

        Args:
            budget: Size to reduce the directory to. Defaults to `None`, the cache's own budget.
            older_than: Remove features last used more than this many days ago. Defaults to `None`.

        Returns:
            One row for each thing removed.
        """
        limit = self.settings.budget if budget is None else _limit(budget)
        return maintenance.collect(self.directory, limit, older_than)

    def _announce(self, plan: CachePlan, epochs: int) -> None:
        if not self.verbose:
            return
        for stage in plan.stages:
            print(stage, file=sys.stderr)
        if copies := self.settings.copies:
            print(
                f"The epochs take turns with {copies} fixed augmented copies of each image; fresh augmentation in "
                f"each of {epochs} epochs would need {epochs}.",
                file=sys.stderr,
            )


def _limit(budget: str | float | None) -> float:
    """A budget in bytes; `None` is no limit."""
    if budget is None:
        return math.inf
    return parse_bytes(budget) if isinstance(budget, str) else float(budget)


def _listed(callbacks: Callbacks) -> Sequence[Any]:
    """Callbacks as a list."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return [] if callbacks is None else list(keras.tree.flatten(callbacks))
