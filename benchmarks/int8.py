"""How many images int8 needs to be calibrated on, what it costs in accuracy, and what stays in float.

    python benchmarks/int8.py model.onnx --calibration IMAGES --check LABELLED [--counts 16 32 …] [-o result.json]

The fp32 file is quantised as `kerasxfer export --precision int8` does it, on the first so many of the images drawn from
`--calibration`, and answers all images of `--check`, class folders of its own classes. OpenVINO runs both.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from kerasxfer_serving.model.manifest import Manifest
from kerasxfer_serving.runtime.opening import open_session

from kerasxfer.data.image_folder import ImageFolder
from kerasxfer.export.precision import to_int8
from kerasxfer.export.proof import choose_samples

PRODUCTS = ("Conv", "Gemm", "MatMul")
QUANTISING = ("QuantizeLinear", "DequantizeLinear")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--check", required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    proto, manifest = onnx.load(arguments.model), Manifest.read(arguments.model)
    samples = choose_samples(arguments.calibration, max(arguments.counts), manifest.image_size, manifest.policy).images
    images, labels = labelled(arguments.check, manifest)
    exact = answers(proto, images)
    rows = [{"images": 0, "accuracy": float((exact.argmax(axis=1) == labels).mean())}]
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as folder:
            int8 = to_int8(proto, samples[:count], Path(folder))
        received = answers(int8, images)
        rows.append(
            {
                "images": count,
                "accuracy": float((received.argmax(axis=1) == labels).mean()),
                "same_class": float((received.argmax(axis=1) == exact.argmax(axis=1)).mean()),
                "largest_difference": float(np.abs(received - exact).max()),
            }
        )
        print(rows[-1], flush=True)
    result = {"model": arguments.model.name, "in_float": in_float(int8), "rows": rows}
    print(json.dumps(result, indent=2))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


def labelled(folder: str, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    dataset = ImageFolder(
        folder, manifest.image_size, class_names=manifest.class_names, shuffle=False, policy=manifest.policy
    )
    batches = [dataset[number] for number in range(len(dataset))]
    return np.concatenate([batch[0] for batch in batches]), np.concatenate([batch[1] for batch in batches])


def answers(proto: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = open_session(proto.SerializeToString(), "openvino")
    return np.concatenate([session.run(images[start : start + 8])[0] for start in range(0, len(images), 8)])


def in_float(proto: onnx.ModelProto) -> dict[str, int]:
    """Operators that do not read quantised values, for products quantised weights too, by kind."""
    quantised = {name for node in proto.graph.node if node.op_type == QUANTISING[1] for name in node.output}
    others = [node for node in proto.graph.node if node.op_type not in QUANTISING]
    read = [node.input[: 2 if node.op_type in PRODUCTS else 1] for node in others]
    return Counter(node.op_type for node, names in zip(others, read, strict=True) if not quantised.issuperset(names))


if __name__ == "__main__":
    main()
