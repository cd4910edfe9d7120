"""`Erfc`, which TensorFlow's exact GELU uses and ONNX does not have, as one minus `Erf`."""

import numpy as np
import onnx


def spell_out_erfc(graph: onnx.GraphProto) -> None:
    """Replace every `Erfc` by `1 - Erf`, in place."""
    found = [node for node in graph.node if node.op_type == "Erfc"]
    if not found:
        return
    one = "erfc/one"
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, "float32"), one))
    for node in found:
        output, inner = node.output[0], f"{node.output[0]}/erf"
        node.op_type, node.output[0] = "Erf", inner
        place = list(graph.node).index(node)
        graph.node.insert(place + 1, onnx.helper.make_node("Sub", [one, inner], [output], f"{node.name}/Sub"))
