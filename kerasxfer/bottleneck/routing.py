"""How `model.fit` trains on features: the model's own fit, its call routed through the suffix.

The optimizer, the metrics, the state on JAX, the loop and the callbacks are those of the model, because it is the model
that is fitted. Only what it computes on a batch of features starts at the boundary. Everything else that is called with
pictures during the fit (`model.predict` in a callback) goes the whole way.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from kerasxfer.bottleneck.boundary import Boundary, find_boundary, trained_now
from kerasxfer.bottleneck.features import Features
from kerasxfer.bottleneck.feeding import ROWS, FeatureFeed, Place
from kerasxfer.bottleneck.graph import Graph
from kerasxfer.keras_internals import remake_functions


class Router(keras.callbacks.Callback):
    """Sends batches of features through the suffix, and changes the boundary when other layers are trained.

    It is the last callback of the fit: at the beginning of an epoch it sees which layers are trained now, whatever has
    changed them.

    Args:
        graph: The model's graph.
        places: Boundaries with features, the pictures (position 0) among them.
        feeds: The data sets whose features must be at hand.
        fetch: Called with a feed and a position: sees that the features of the present weights are there and returns
            their fingerprint and themselves.
        augmentation: Whether augmentation is cached as copies.
    """

    def __init__(
        self, graph: Graph, places: Sequence[Place], feeds: Sequence[FeatureFeed],
        fetch: Callable[[FeatureFeed, int], tuple[str, Features]], *, augmentation: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.graph = graph
        self.places = sorted(places, key=lambda place: place.position)
        self.active = self.places[0]
        self._feeds = feeds
        self._fetch = fetch
        self._augmentation = augmentation
        self._settled = False
        for feed in feeds:
            feed.places = self.places

    def boundary(self, model: keras.Model) -> Boundary:
        """The boundary of what is trained now."""
        return find_boundary(self.graph, trained_now(model, self.graph), augmentation=self._augmentation)

    def enter(self, place: Place) -> None:
        """Train from a boundary: have its features at hand, computed with the weights of this moment."""
        if place.position:
            for feed in self._feeds:
                feed.features = self._fetch(feed, place.position)
        self.active = place
        for feed in self._feeds:
            feed.active = place

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._feeds[0].source.epoch = epoch
        position = self.boundary(self.model).position
        place = max((p for p in self.places if p.position <= position), key=lambda p: p.position)
        if place is self.active and self._settled:
            return
        changed = place is not self.active
        self.enter(place)
        self._settled = True
        if place.jit_compile is not None and self.model.jit_compile != place.jit_compile:
            self.model.jit_compile = place.jit_compile
            changed = True
        if changed:  # the old functions have the old suffix in them
            remake_functions(self.model)
            self.model.make_test_function(force=True)

    @contextlib.contextmanager
    def routed(self, model: keras.Model) -> Iterator[None]:
        """Let the model take batches of features as well as pictures."""
        whole, spec, jit_compile = model.call, model.input_spec, model.jit_compile

        def call(inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
            if not isinstance(inputs, dict) or ROWS not in inputs:
                return whole(inputs, training=training, mask=mask, **kwargs)
            features = inputs[self.active.key]
            if self.active.suffix is None:
                return whole(features, training=training, **kwargs)
            return self.active.suffix(features, training=training, **kwargs)

        model.call, model.input_spec = call, None
        model.train_function = model.test_function = None
        try:
            yield
        finally:
            del model.call
            model.input_spec = spec
            model.jit_compile = jit_compile
            model.train_function = model.test_function = None
