"""A model's graph as a list of steps, nested models inlined, and the models between two of its tensors."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kerasxfer.bottleneck.errors import BoundaryError
from kerasxfer.keras_internals.models import has_graph, run_graph
from kerasxfer.types import Tensor


@dataclass(frozen=True)
class GraphStep:
    """One call of a layer or operation: what went in, what came out (symbolic tensors)."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any

    @property
    def input_tensors(self) -> list[Tensor]:
        """Symbolic tensors among the arguments, in order."""
        return tensors_in((self.args, self.kwargs))

    @property
    def output_tensors(self) -> list[Tensor]:
        """Symbolic results."""
        return tensors_in(self.outputs)

    @property
    def variables(self) -> list[Any]:
        """Variables of the layer; none for a plain operation."""
        return list(getattr(self.operation, "variables", ()))


@dataclass(frozen=True)
class Graph:
    """Steps in topological order. Tensor 0 is the input, tensor k + 1 the (first) output of step k."""

    input: Tensor
    steps: tuple[GraphStep, ...]
    outputs: Any

    def cut(self, position: int) -> Tensor:
        """The tensor after the first `position` steps."""
        return self.steps[position - 1].output_tensors[0] if position else self.input

    def single_tensor_cuts(self) -> list[int]:
        """Positions where one tensor is all that the later steps and the outputs need, the input (0) first.

        A tensor through which every path from input to output passes has all other steps either before or after it,
        so in any topological order it is the whole frontier at its own position: one sweep finds every such tensor.
        """
        last_use = {id(tensor): k for k, step in enumerate(self.steps) for tensor in step.input_tensors}
        last_use.update((id(tensor), len(self.steps)) for tensor in tensors_in(self.outputs))
        frontier = {id(self.input)}
        cuts = [0]
        for k, step in enumerate(self.steps):
            frontier = {tensor for tensor in frontier if last_use[tensor] > k}
            frontier.update(id(tensor) for tensor in step.output_tensors if last_use.get(id(tensor), -1) > k)
            if len(frontier) == 1 and id(step.output_tensors[0]) in frontier:
                cuts.append(k + 1)
        return cuts

    def model(self, start: int = 0, stops: Sequence[int] | None = None, name: str | None = None) -> keras.Model:
        """Model between tensors, sharing layers and variables.

        Args:
            start: Position of its input. Defaults to `0`, the graph's input.
            stops: Positions of its outputs; one position gives one output. Defaults to `None`, the graph's outputs.
            name: Its name.
        """
        stop = max(stops) if stops else len(self.steps)
        renamed = _with_names_of_their_own(self.steps[start:stop])
        entry, replaced = self.input, {}
        if start:
            boundary = self.cut(start)
            entry = keras.Input(batch_shape=boundary.shape, dtype=boundary.dtype, name="features")
        if start or renamed:
            replaced = self._replay(entry, start, stop, renamed)
        if stops is None:
            outputs = self.outputs
        else:
            outputs = [self.cut(stop) for stop in stops] if len(stops) > 1 else self.cut(stops[0])
        return _model(entry, keras.tree.map_structure(lambda t: replaced.get(id(t), t), outputs), name)

    def _replay(self, entry: Tensor, start: int, stop: int, renamed: Mapping[int, Any]) -> dict[int, Tensor]:
        """Call the steps again on another tensor; a `keras.Model` on inner tensors would lose a layer used twice."""
        replaced = {id(self.cut(start)): entry}
        for step in self.steps[start:stop]:
            args, kwargs = keras.tree.map_structure(lambda t: replaced.get(id(t), t), (step.args, step.kwargs))
            outputs = renamed.get(id(step.operation), step.operation)(*args, **kwargs)
            replaced.update(zip(map(id, step.output_tensors), tensors_in(outputs), strict=True))
        return replaced


@keras.saving.register_keras_serializable("kerasxfer")
class Renamed(keras.layers.Wrapper):
    """A layer under another name, in a graph where its own is taken: that of another nested model's layer."""

    def __init__(self, layer: keras.Layer, **kwargs: Any) -> None:
        super().__init__(layer, **{"dtype": layer.dtype_policy, **kwargs})

    def call(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.layer(*args, **kwargs)


def _with_names_of_their_own(steps: Sequence[GraphStep]) -> dict[int, Renamed]:
    """For each layer whose name an earlier one has, by id, the layer under another name."""
    owners: dict[str, int] = {}
    renamed: dict[int, Renamed] = {}
    for operation in (step.operation for step in steps):
        owner = owners.setdefault(operation.name, id(operation))
        if owner != id(operation) and id(operation) not in renamed and isinstance(operation, keras.Layer):
            name = next(new for k in itertools.count(2) if (new := f"{operation.name}_{k}") not in owners)
            owners[name] = id(operation)
            renamed[id(operation)] = Renamed(operation, name=name)
    return renamed


def trace(model: keras.Model) -> Graph:
    """Walk a model's graph on a fresh input, going into nested models.

    Args:
        model: Functional or Sequential model with one input.

    Returns:
        The `Graph`.

    Raises:
        BoundaryError: If the model has no graph, or several inputs.
    """
    if not has_graph(model):
        raise BoundaryError(
            f"Model `{model.name}` must be a built functional or Sequential model: only their graph says what lies "
            f"between the input and the trained layers. Received: {type(model).__name__}. Wrap it: "
            "`keras.Model(inputs, outputs)`."
        )
    inputs = model.inputs
    if len(inputs) != 1:
        raise BoundaryError(
            f"Model `{model.name}` must have one input, the images. Received: {len(inputs)} inputs. "
            "Train it with `model.fit`."
        )
    steps: list[GraphStep] = []

    def call(operation: Any, *args: Any, **kwargs: Any) -> Tensor:
        if has_graph(operation):
            return run(operation, args[0] if args else kwargs["inputs"])
        outputs = operation(*args, **kwargs)
        steps.append(GraphStep(operation, args, kwargs, outputs))
        return outputs

    def run(nested: Any, x: Any) -> Any:
        if isinstance(nested, keras.Sequential):
            for layer in nested.layers:
                x = call(layer, x)
            return x
        return run_graph(nested, x, call)

    entry = keras.Input(batch_shape=inputs[0].shape, dtype=inputs[0].dtype, name=inputs[0].name)
    outputs = run(model, entry)
    return Graph(entry, tuple(steps), outputs)


def tensors_in(structure: Any) -> list[Tensor]:
    """Symbolic tensors of a nested structure."""
    return [leaf for leaf in keras.tree.flatten(structure) if isinstance(leaf, keras.KerasTensor)]


def _model(inputs: Tensor, outputs: Any, name: str | None) -> keras.Model:
    try:
        return keras.Model(inputs, outputs, name=name)
    except ValueError as error:
        if "unique" not in str(error):
            raise
        raise BoundaryError(
            f"The layers of all nested models must have names of their own, so that they fit into one graph. {error} "
            "Rename them when you build the model: `name=`."
        ) from error
