"""An exported file in PyTorch, channels last and compiled: a peer with the same weights and the same answers.

    python benchmarks/torch_onnx.py model.onnx [--batch-sizes 8 32] [--seconds 4]

Prints the images a second of the faster batch size on pixels that lie ready, and the seconds of processor time.
"""

import argparse
import time

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn import functional


class OnnxInTorch(torch.nn.Module):
    """The operators of exported convolutional networks, by the names of the graph's values."""

    def __init__(self, path: str) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        self.nodes = [(node.op_type, tuple(node.input), node.output[0], attributes(node)) for node in graph.node]
        self.output = graph.output[0].name
        arrays = {tensor.name: np.array(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
        self.fixed = {name: array.tolist() for name, array in arrays.items() if array.size < 16}
        self.names = {}
        for number, (name, array) in enumerate(arrays.items()):
            if array.dtype == np.float32:
                value = torch.from_numpy(array)
                if value.ndim == 4:
                    value = value.to(memory_format=torch.channels_last)
                self.register_buffer(f"weight_{number}", value)
                self.names[name] = f"weight_{number}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = {"images": images}

        def read(name):
            return getattr(self, self.names[name]) if name in self.names else values.get(name)

        for kind, inputs, output, options in self.nodes:
            fixed = [self.fixed.get(name) for name in inputs]
            values[output] = OPERATORS[kind]([read(name) for name in inputs], fixed, options)
        return values[self.output]


def attributes(node) -> dict:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def padded(x, options, value=0.0):
    if options.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise NotImplementedError(f"auto_pad {options['auto_pad']}")
    pads = options.get("pads", [0, 0, 0, 0])
    return functional.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=value) if any(pads) else x


def convolve(values, fixed, options):
    x, kernel, *bias = values
    pads = options.get("pads", [0, 0, 0, 0])
    same = pads[:2] == pads[2:]
    x = x if same else padded(x, options)
    return functional.conv2d(
        x,
        kernel,
        bias[0] if bias else None,
        stride=tuple(options.get("strides", (1, 1))),
        padding=tuple(pads[:2]) if same else 0,
        groups=options.get("group", 1),
    )


def average(values, fixed, options):
    size, stride, pads = (tuple(options.get(name, (1, 1))) for name in ("kernel_shape", "strides", "pads"))
    if any(pads) and pads[:2] == pads[2:] and not options.get("count_include_pad", 0):
        return functional.avg_pool2d(values[0], size, stride, pads[:2], count_include_pad=False)
    return functional.avg_pool2d(padded(values[0], options), size, stride)


def largest(values, fixed, options):
    x = padded(values[0], options, -torch.inf)
    return functional.max_pool2d(x, tuple(options["kernel_shape"]), tuple(options.get("strides", (1, 1))))


def pad(values, fixed, options):
    pads = fixed[1]  # all beginnings, then all ends
    sides = [side for axis in reversed(range(len(pads) // 2)) for side in (pads[axis], pads[axis + len(pads) // 2])]
    return functional.pad(values[0], sides, value=float(fixed[2]) if len(fixed) > 2 else 0.0)


def product(values, fixed, options):
    matrix = values[1].T if options.get("transB") else values[1]
    return values[0] @ matrix + (values[2] if len(values) > 2 else 0)


def clip(values, fixed, options):
    return torch.clamp(values[0], *(float(bound) for bound in fixed[1:]))


def mean(values, fixed, options):
    axes = options.get("axes") or fixed[1]
    return values[0].mean(dim=tuple(axes), keepdim=bool(options.get("keepdims", 1)))


OPERATORS = {
    "Cast": lambda values, fixed, options: values[0].float(),
    "Transpose": lambda values, fixed, options: values[0].permute(options["perm"]),
    "Identity": lambda values, fixed, options: values[0],
    "Conv": convolve,
    "Relu": lambda values, fixed, options: torch.relu(values[0]),
    "Clip": clip,
    "Sigmoid": lambda values, fixed, options: torch.sigmoid(values[0]),
    "Softmax": lambda values, fixed, options: torch.softmax(values[0], options.get("axis", -1)),
    "MaxPool": largest,
    "AveragePool": average,
    "GlobalAveragePool": lambda values, fixed, options: values[0].mean((2, 3), keepdim=True),
    "ReduceMean": mean,
    "Squeeze": lambda values, fixed, options: values[0].flatten(1),
    "Flatten": lambda values, fixed, options: values[0].flatten(options.get("axis", 1)),
    "Reshape": lambda values, fixed, options: values[0].reshape(fixed[1]),
    "Concat": lambda values, fixed, options: torch.cat(values, options["axis"]),
    "Add": lambda values, fixed, options: values[0] + values[1],
    "Sub": lambda values, fixed, options: values[0] - values[1],
    "Mul": lambda values, fixed, options: values[0] * values[1],
    "Div": lambda values, fixed, options: values[0] / values[1],
    "Pad": pad,
    "MatMul": product,
    "Gemm": product,
}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[8, 32])
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    network = OnnxInTorch(arguments.model).eval()
    size = [dim.dim_value for dim in onnx.load(arguments.model).graph.input[0].type.tensor_type.shape.dim][1:]
    require_same_answers(arguments.model, network, size)
    compiled = torch.compile(network, dynamic=False)
    found = []
    for batch in arguments.batch_sizes:
        images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (batch, *size), "uint8"))
        for _ in range(3):
            compiled(images)
        runs, started, cpu = 0, time.perf_counter(), time.process_time()
        while (elapsed := time.perf_counter() - started) < arguments.seconds / len(arguments.batch_sizes):
            compiled(images)
            runs += 1
        found.append((runs * batch, elapsed, time.process_time() - cpu))
    print("RATE", *max(found, key=lambda figures: figures[0] / figures[1]))


def require_same_answers(path: str, network: OnnxInTorch, size: list[int]) -> None:
    import onnxruntime

    images = np.random.default_rng(1).integers(0, 256, (2, *size), "uint8")
    (expected,) = onnxruntime.InferenceSession(path).run(["probabilities"], {"images": images})
    np.testing.assert_allclose(network(torch.from_numpy(images)).numpy(), expected, atol=1e-4)


if __name__ == "__main__":
    main()
