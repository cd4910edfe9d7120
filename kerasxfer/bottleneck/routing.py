"""How `model.fit` trains on features: the model's own fit, its call routed through the suffix.

The optimizer, the metrics, the state on JAX, the loop and the callbacks are those of the model, because it is the model
that is fitted. Only what it computes on a batch of features starts at the boundary. Everything else that is called with
images during the fit (`model.predict` in a callback) goes the whole way.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from kerasxfer.bottleneck.boundary import find_boundary, trained_now
from kerasxfer.bottleneck.feeding import ROWS, FeatureFeed, Place, TrainingFeed
from kerasxfer.bottleneck.graph import Graph
from kerasxfer.bottleneck.shards import Features
from kerasxfer.bottleneck.sources import ImageSource
from kerasxfer.keras_internals import remake_functions

GetFeatures = Callable[[int, ImageSource, int], Features]


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
