"""How `model.fit` trains on features: the model's own fit, its call routed through the suffix of a place.

The optimizer, the metrics, the state on JAX, the loop and the callbacks are those of the model, because it is the model
that is fitted. Only what it computes on a batch of features starts at the boundary. Everything else that is called with
images during the fit (`model.predict` in a callback) goes the whole way.
"""

import contextlib
import json
import platform as machine
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving.files import write_atomically
from numpy.typing import NDArray

from kerasxfer.bottleneck.boundary import find_boundary, trained_now
from kerasxfer.bottleneck.feeding import ROWS, FeatureFeed, Place, TrainingFeed
from kerasxfer.bottleneck.graph import Graph
from kerasxfer.bottleneck.job import CacheJob
from kerasxfer.bottleneck.planner import CachePlan, storage_dtype
from kerasxfer.bottleneck.shards import Features
from kerasxfer.bottleneck.sources import ImageSource
from kerasxfer.bottleneck.store import LAYOUT
from kerasxfer.keras_internals import remake_functions

GetFeatures = Callable[[int, ImageSource, int], Features]

# A compilation takes as long as some hundred steps of a small suffix: measuring would cost more than it gains.
LEAST_STEPS = 100


class Router(keras.callbacks.Callback):
    """Sends batches of features through the suffix, and changes the boundary when other layers are trained.

    It is the last callback of the fit: at the beginning of an epoch it sees which layers are trained now, whatever has
    changed them.

    Args:
        graph: The model's graph.
        place: The place that the fit starts from.
        places: All places, the images (position 0) among them.
        feeds: The data sets whose features must be at hand.
        get_features: Called with a position, a source and its number of copies: gives the features of the present
            weights, computed where they are missing.
    """

    def __init__(
        self,
        graph: Graph,
        place: Place,
        places: Sequence[Place],
        feeds: Sequence[FeatureFeed],
        get_features: GetFeatures,
    ) -> None:
        super().__init__()
        self._graph = graph
        self._places = places
        self._feeds = feeds
        self._get_features = get_features
        self._settled = False
        self._enter(place)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for feed in self._training_feeds():
            feed.begin_epoch(epoch)
        place = self._place_of_what_is_trained()
        if place is self._active and self._settled:
            return
        changed = place is not self._active
        # Even where it is the place that the fit has started from: a callback may have loaded other weights since.
        self._enter(place)
        self._settled = True
        if place.jit_compile is not None and self.model.jit_compile != place.jit_compile:
            self.model.jit_compile = place.jit_compile
            changed = True
        if changed:  # the old functions have the old suffix in them
            remake_functions(self.model)
            self.model.make_test_function(force=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for feed in self._training_feeds():
            feed.end_epoch()

    @contextlib.contextmanager
    def routed(self, model: keras.Model) -> Iterator[None]:
        """Let the model take batches of features as well as images."""
        whole, spec, jit_compile = model.call, model.input_spec, model.jit_compile

        def call(inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
            if not isinstance(inputs, dict) or ROWS not in inputs:
                return whole(inputs, training=training, mask=mask, **kwargs)
            features = inputs[self._active.key]
            if self._active.suffix is None:
                return whole(features, training=training, **kwargs)
            return self._active.suffix(features, training=training, **kwargs)

        model.call, model.input_spec = call, None
        model.train_function = model.test_function = None
        try:
            yield
        finally:
            del model.call
            model.input_spec = spec
            model.jit_compile = jit_compile
            model.train_function = model.test_function = None

    def _enter(self, place: Place) -> None:
        """Train from a place: have its features at hand, computed with the weights of this moment."""
        self._active = place
        for feed in self._feeds:
            feed.switch(place, self._get_features(place.position, feed.source, feed.copies) if place.position else None)

    def _place_of_what_is_trained(self) -> Place:
        trained = trained_now(self.model, self._graph)
        augmentation = any(feed.copies for feed in self._feeds)
        position = find_boundary(self._graph, trained, augmentation=augmentation).position
        return max((place for place in self._places if place.position <= position), key=lambda place: place.position)

    def _training_feeds(self) -> list[TrainingFeed]:
        return [feed for feed in self._feeds if isinstance(feed, TrainingFeed)]


def image_place(samples: Sequence[tuple[ImageSource, int]]) -> Place:
    """The images themselves.

    Args:
        samples: The sources of the fit, each with its number of augmented copies.
    """
    images = [source.images(np.array([0]), 0 if copies else None) for source, copies in samples]
    return Place(0, np.empty((0, *images[0].shape[1:]), np.result_type(*images)))


def place_at(job: CacheJob, position: int) -> Place:
    """A boundary."""
    tensor = job.graph.cut(position)
    empty_batch = np.empty((0, *tensor.shape[1:]), storage_dtype(tensor, job.settings.dtype))
    return Place(position, empty_batch, job.suffix(position))


def places_of(job: CacheJob, plan: CachePlan, jit_compile: bool | str, batch_size: int, steps: int) -> list[Place]:
    """The boundaries of a plan, each with the setting of XLA that is asked for or faster.

    Args:
        job: The model with the cache's settings.
        plan: Its plan.
        jit_compile: As in `BottleneckCache`.
        batch_size: Images in a batch.
        steps: Training steps that the fit will take.
    """
    places = []
    for place in (place_at(job, position) for position in plan.positions):
        jit = jit_compile if isinstance(jit_compile, bool) else None
        if jit is None:
            directory = job.settings.directory
            jit = faster_with_jit(directory, job.model, place.suffix, place.empty_batch, batch_size, steps)
        places.append(replace(place, jit_compile=jit))
    return places


def faster_with_jit(
    directory: Path, model: keras.Model, suffix: keras.Model, nothing: NDArray[Any], batch_size: int, steps: int
) -> bool | None:
    """Whether training the suffix is faster with XLA, measured once on a copy of it and remembered in the cache.

    Only on TensorFlow is it a question: XLA halves the speed of convolutions on some CPUs and doubles that of others.
    JAX is made for compilation, and Keras does not compile on PyTorch unless told to.

    Args:
        directory: The cache's directory.
        model: The compiled model; `jit_compile=False` there is the user's word.
        suffix: The model from the boundary on.
        nothing: An array of no rows with the features' shape and dtype.
        batch_size: Images in a batch.
        steps: Training steps that the fit will take.

    Returns:
        The faster setting, or None to leave the model's.
    """
    if keras.backend.backend() != "tensorflow" or not model.jit_compile or steps < LEAST_STEPS:
        return None
    trained = "".join("01"[layer.trainable] for layer in suffix.layers)
    key = " ".join(
        map(str, [machine.node(), keras.version(), suffix.count_params(), nothing.shape, batch_size, trained])
    )
    path = directory / LAYOUT / "jit_compile.json"
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
        if key in known:
            return bool(known[key])
    batch = np.random.default_rng(0).random((batch_size, *nothing.shape[1:]), dtype="float32")
    try:
        seconds = {jit: _training_seconds(suffix, batch, jit) for jit in (False, True)}
    except (NotImplementedError, TypeError, ValueError):  # a layer that cannot be cloned, or compiled
        return None
    faster = seconds[True] < seconds[False]
    with contextlib.suppress(OSError):
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({**known, key: faster}))
    return faster


def _training_seconds(suffix: keras.Model, batch: NDArray[Any], jit_compile: bool) -> float:
    copy = keras.models.clone_model(suffix)
    targets = np.zeros((len(batch), *copy.output_shape[1:]), "float32")
    copy.compile("sgd", "mse", jit_compile=jit_compile)
    copy.train_on_batch(batch, targets)  # compiles
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        copy.train_on_batch(batch, targets)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
