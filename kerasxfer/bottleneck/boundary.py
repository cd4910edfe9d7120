"""The freeze boundary: the last tensor that stays the same, image by image, while the rest is trained."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import keras

from kerasxfer.bottleneck.errors import BoundaryError
from kerasxfer.bottleneck.graph import Graph, GraphStep, trace


@dataclass(frozen=True)
class Boundary:
    """A cut of the graph: the prefix is what comes before `position`.

    Args:
        graph: The model's graph.
        position: Number of steps in the prefix; 0 is the input itself.
        augmented: Number of steps at the front that only augment the image; they are no part of the prefix.
        blocker: Name of the layer that keeps the boundary from lying further on.
        reason: Why it does.
    """

    graph: Graph
    position: int
    augmented: int
    blocker: str
    reason: str

    @property
    def name(self) -> str:
        """Name of the last layer of the prefix."""
        return str(self.graph.steps[self.position - 1].operation.name) if self.position else "input"

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of one image's activation."""
        return tuple(self.graph.cut(self.position).shape[1:])

    @property
    def worthwhile(self) -> bool:
        """Whether anything with weights lies before it."""
        return any(step.variables for step in self.graph.steps[: self.position])


def split_at_boundary(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Split a model where its frozen part ends.

    The boundary is the last tensor that every path from the input to the output passes through, with nothing trained,
    random or batch-dependent before it. If the frozen layers end in several tensors, as within an Inception block, it
    moves back to the last single one before them. Nested models are inlined. Both models share layers and variables
    with `model`: `suffix(prefix(x))` equals `model(x)`, in training too.

    Args:
        model: A functional or Sequential model with one input, whose frozen layers have `trainable = False`.

    Returns:
        `(prefix, suffix)`: models from the images to the boundary, and from there to the output.

    Raises:
        BoundaryError: If there is no such boundary; the message names the layer in the way and the remedy.

    Example:

    ```python
    prefix, suffix = kerasxfer.split_at_boundary(model)
    features = prefix.predict(images)
    suffix.compile("adam", "sparse_categorical_crossentropy")
    suffix.fit(features, labels)
    ```
    """
    graph = trace(model)
    boundary = find_boundary(graph, trained_now(model, graph))
    refuse_useless(model, boundary)
    position = boundary.position
    return graph.model(0, [position], f"{model.name}_prefix"), graph.model(position, None, f"{model.name}_suffix")


def trained_now(model: keras.Model, graph: Graph) -> set[int]:
    """Ids of the variables that `fit` would train now, and of the layers whose BatchNorm would use the batch."""
    norms = (step.operation for step in graph.steps if isinstance(step.operation, keras.layers.BatchNormalization))
    return {id(variable) for variable in model.trainable_variables} | {id(norm) for norm in norms if norm.trainable}


def find_boundary(graph: Graph, trained: Collection[int], *, augmentation: bool = False) -> Boundary:
    """Find the last valid boundary.

    Args:
        graph: The model's graph.
        trained: Ids of the trained variables, and layers, see `trained_now`.
        augmentation: Whether random layers in front of the first layer with weights are passed over, because their
            results are cached as copies. Defaults to `False`.

    Returns:
        The `Boundary`; position 0 if the very first step is in the way.
    """
    augmented = augmenting_steps(graph) if augmentation else 0
    blocked = ((k, why_live(step, trained)) for k, step in enumerate(graph.steps) if k >= augmented)
    first, reason = next(((k, why) for k, why in blocked if why), (len(graph.steps), "is the end of the model"))
    position = max(cut for cut in graph.single_tensor_cuts() if cut <= first)
    blocker = graph.steps[min(first, len(graph.steps) - 1)].operation.name
    return Boundary(graph, position, augmented, blocker, reason)


def why_live(step: GraphStep, trained: Collection[int]) -> str | None:
    """Why a step's result may differ from epoch to epoch, or None."""
    if any(id(variable) in trained for variable in step.variables):
        return "is trained"
    if id(step.operation) in trained:
        return "normalises by the batch; set its `trainable` to False"
    if is_random(step):
        return "is random in training, frozen or not; set its rate to 0 or leave it out of the frozen part"
    if getattr(step.operation, "activity_regularizer", None) is not None:
        return "adds an activity regularisation loss; leave the regularizer out of the frozen part"
    return None


def is_random(step: GraphStep) -> bool:
    """Whether a layer draws random numbers in training: it then holds a generator's state."""
    return any(variable.name == "seed_generator_state" for variable in step.variables)


def refuse_useless(model: keras.Model, boundary: Boundary) -> None:
    """Raise a `BoundaryError` if there is nothing to cache."""
    if not boundary.worthwhile:
        raise BoundaryError(_nothing_to_cache(model, boundary))


def augmenting_steps(graph: Graph) -> int:
    """Steps up to the last random layer in front of the first layer with weights, or 0."""
    count = 0
    for k, step in enumerate(graph.steps):
        if is_random(step):
            count = k + 1
        elif step.variables:
            break
    return max(cut for cut in graph.single_tensor_cuts() if cut <= count)


def _nothing_to_cache(model: Any, boundary: Boundary) -> str:
    message = f"Model `{model.name}` has no frozen layers to cache: layer `{boundary.blocker}` {boundary.reason}."
    if augmenting_steps(boundary.graph) and not boundary.augmented:
        return (
            f"{message} Random augmentation gives other images in each epoch. Either cache a number of augmented "
            "copies, `BottleneckCache(directory, copies=K)`, or take the augmentation out and cache the plain images."
        )
    return f"{message} Freeze the layers before it (`layer.trainable = False`), or train with `model.fit`."
