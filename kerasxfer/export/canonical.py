"""One graph, one file: nodes, names and constants in an order that only the graph itself decides.

The converter merges equal constants in the order of a set, so that another one of them survives in every process, and
numbers what it makes as it goes.
"""

import re
from collections import Counter
from typing import Any

import onnx


def canonicalise(graph: onnx.GraphProto) -> None:
    """Sort the nodes and constants of a graph and name them by their places.

    A node keeps the name of its layer, without the converter's number. A constant is named after the first node that
    reads it and the place of that input, a node's output after the node.

    Args:
        graph: Changed in place; names of its inputs and outputs stay.
    """
    nodes = _sorted_nodes(graph)
    _name_nodes(nodes)
    names = _tensor_names(graph, nodes)
    for node in nodes:
        for places in (node.input, node.output):
            for place, name in enumerate(places):
                places[place] = names.get(name, name)
    constants = {names.get(tensor.name, tensor.name): tensor for tensor in graph.initializer}
    ordered = []
    for name in dict.fromkeys(name for node in nodes for name in node.input if name in constants):
        tensor = onnx.TensorProto()
        tensor.CopyFrom(constants[name])
        tensor.name = name
        ordered.append(tensor)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(ordered)


def _sorted_nodes(graph: onnx.GraphProto) -> list[Any]:
    """Copies of the nodes, each after what it reads: depth first from the outputs, inputs from first to last."""
    makers = {name: node for node in graph.node for name in node.output}
    ordered: list[Any] = []
    done: set[int] = set()
    waiting = [makers[output.name] for output in reversed(graph.output) if output.name in makers]
    while waiting:
        node = waiting[-1]
        missing = [makers[name] for name in node.input if name in makers and id(makers[name]) not in done]
        if missing:
            waiting.extend(reversed(missing))
            continue
        waiting.pop()
        if id(node) not in done:
            done.add(id(node))
            ordered.append(_copy(node))
    return ordered


def _copy(node: Any) -> Any:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _name_nodes(nodes: list[Any]) -> None:
    taken: Counter[str] = Counter()
    for node in nodes:
        name = re.sub(r"__\d+", "", node.name) or node.op_type
        node.name = f"{name}_{taken[name]}" if taken[name] else name
        taken[name] += 1


def _tensor_names(graph: onnx.GraphProto, nodes: list[Any]) -> dict[str, str]:
    """New names of constants and of what lies between nodes, by their old ones."""
    constants = {tensor.name for tensor in graph.initializer}
    kept = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}
    for node in nodes:
        for place, name in enumerate(node.input):
            if name in constants:
                names.setdefault(name, f"{node.name}/input_{place}")
        for place, name in enumerate(node.output):
            if name and name not in kept:
                names[name] = f"{node.name}:{place}"
    return names
