"""What a model's output holds, told from the arithmetic of its graph: the operator that decides, not the last one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import onnx

# Their values are those of their first input, but for shape, type or rounding.
_PASSING = frozenset(
    {
        "Cast",
        "CastLike",
        "Identity",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Clip",
        "Dropout",
        "QuantizeLinear",
        "DequantizeLinear",
        "GlobalAveragePool",
        "AveragePool",
        "ReduceMean",
    }
)
_SHAPING = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Expand"})
_SCALING = frozenset({"Add", "Sub", "Mul", "Div"})
_UNBOUNDED = frozenset(
    {
        "Gemm",
        "MatMul",
        "Conv",
        "Einsum",
        "BatchNormalization",
        "LayerNormalization",
        "InstanceNormalization",
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Sum",
        "LogSoftmax",
        "FusedGemm",
        "FusedMatMul",
        "FusedConv",
        "MatMulNBits",
        "MatMulInteger",
        "ConvInteger",
        "QLinearMatMul",
        "QLinearConv",
        "QLinearAdd",
        "QGemm",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "QLinearGlobalAveragePool",
    }
)
_BOUNDED = {"Softmax": "softmax", "QLinearSoftmax": "softmax", "Sigmoid": "sigmoid", "QLinearSigmoid": "sigmoid"}
_MOST_STEPS = 1000


class Activation(NamedTuple):
    """What decides an output.

    Args:
        output: `"softmax"`, `"sigmoid"` or `"logits"`; `None` where the graph does not tell.
        operator: The operator that decides, or where the search ended.
    """

    output: str | None
    operator: str


def find_activation(proto: "onnx.ModelProto", output: str) -> Activation:
    """Follow an output of a graph back to the operator that decides what its values are.

    Args:
        proto: An `onnx.ModelProto`.
        output: Name of one of its graph's outputs.
    """
    functions = {(function.domain, function.name): function for function in proto.functions}
    scope = _Scope(proto.graph.node, {tensor.name for tensor in proto.graph.initializer})
    scaled = False
    for _ in range(_MOST_STEPS):
        scope, output = scope.leave(output)
        node = scope.producers.get(output)
        if node is None:
            return Activation(None, "the graph's input")
        kind = node.op_type
        function = functions.get((node.domain, kind))
        if function is not None and len(function.output) >= len(node.output):
            scope, output = scope.enter(node, function, output)
            continue
        if kind in _BOUNDED:
            return Activation(None if scaled else _BOUNDED[kind], kind)
        if kind in _UNBOUNDED:
            return Activation("logits", kind)
        if not node.input:
            return Activation(None, kind)
        if kind in _PASSING:
            output = node.input[0]
        elif kind in _SCALING:
            if scope.is_softmax(node):
                return Activation(None if scaled else "softmax", "Exp / ReduceSum")
            varying = [name for name in node.input if not scope.is_constant(name)]
            if len(varying) != 1:
                return Activation("logits" if kind in ("Add", "Sub") and varying else None, kind)
            output, scaled = varying[0], True
        else:
            return Activation(None, kind)
    return Activation(None, "a chain without end")


class _Scope:
    """The nodes of the graph, or of a function that one of them calls."""

    def __init__(self, nodes: Sequence[Any], constants: set[str], outer: "_Scope | None" = None) -> None:
        self.producers = {name: node for node in nodes for name in node.output if name}
        self._constants = constants
        self._outer = outer
        self._names: dict[str, str] = {}

    def enter(self, node: Any, function: Any, output: str) -> tuple["_Scope", str]:
        inner = _Scope(function.node, set(), self)
        inner._names = dict(zip(function.input, node.input, strict=False))
        return inner, function.output[list(node.output).index(output)]

    def leave(self, name: str) -> tuple["_Scope", str]:
        """Where a name comes from that is an input of a function: outside of it."""
        scope = self
        while scope._outer is not None and name not in scope.producers and name in scope._names:
            scope, name = scope._outer, scope._names[name]
        return scope, name

    def is_constant(self, name: str) -> bool:
        """Whether a value is in the file, be it in another type or quantised."""
        scope, name = self.leave(name)
        for _ in range(_MOST_STEPS):
            node = scope.producers.get(name)
            if node is None:
                return name in scope._constants
            if node.op_type not in _PASSING or not node.input:
                return bool(node.op_type == "Constant")
            scope, name = scope.leave(node.input[0])
        return False

    def is_softmax(self, node: Any) -> bool:
        """Whether a node divides exponentials by their sum."""
        if node.op_type != "Div" or len(node.input) != 2:
            return False
        above, below = (self.producers.get(name) for name in node.input)
        for _ in range(_MOST_STEPS):
            if below is None or below.op_type not in _SHAPING or not below.input:
                break
            below = self.producers.get(below.input[0])
        if above is None or below is None:
            return False
        kinds = (above.op_type, below.op_type)
        return kinds == ("Exp", "ReduceSum") and node.input[0] in below.input[:1]
