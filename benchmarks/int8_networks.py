"""What int8 costs networks with swish, squeeze-and-excitation or layer normalisation, or why the export refuses it.

    KERAS_BACKEND=tensorflow python benchmarks/int8_networks.py [--networks EfficientNetB0 …] [-o result.json]

Every network is trained from scratch to tell drawn shapes apart, since a network that has learned nothing has no
accuracy to lose. Then it is exported in int8 with `kerasxfer.export_onnx`, calibrated on the training images and
checked on others, in ONNX Runtime and OpenVINO.
"""

import argparse
import json
import tempfile
from pathlib import Path

import keras
from kerasxfer_serving.commands.output import print_table

import kerasxfer
from kerasxfer.demo.images import TASK_CLASSES, draw_folder
from kerasxfer.export.errors import ExportError

NETWORKS = ("EfficientNetB0", "MobileNetV3Small", "ConvNeXtTiny", "MobileNetV2")
# Plain networks learn at Adam's usual rate; one without batch normalisation needs a lower one.
RATES = {"ConvNeXtTiny": 2e-4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--per-class", type=int, default=800, help="training images; as many to check on")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        train, check = (
            draw_folder(Path(folder) / name, TASK_CLASSES, arguments.per_class, size=arguments.size, seed=seed)
            for seed, name in enumerate(("train", "check"))
        )
        for network in arguments.networks:
            rows.append({"network": network} | lower(trained(network, train, arguments), train, check, Path(folder)))
            print(rows[-1], flush=True)
    print_table(rows)
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=2) + "\n")


def trained(network: str, folder: Path, arguments: argparse.Namespace) -> keras.Model:
    keras.utils.set_random_seed(0)
    size = (arguments.size, arguments.size)
    model = kerasxfer.image_classifier(network, TASK_CLASSES, size, weights=None, head="average", dropout=0.2)
    for layer in model.layers:
        layer.trainable = True
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # some hundred steps, not thousands
    images = kerasxfer.ImageFolder(folder, size, batch_size=32)
    rate = keras.optimizers.schedules.CosineDecay(RATES.get(network, 1e-3), arguments.epochs * len(images))
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, epochs=arguments.epochs, verbose=2)
    return model


def lower(model: keras.Model, train: Path, check: Path, folder: Path) -> dict[str, object]:
    """Export in int8; the accuracies, or the refusal."""
    try:
        exported = kerasxfer.export_onnx(
            model,
            folder / "int8.onnx",
            precision="int8",
            calibration=train,
            check=check,
            runtimes=("onnxruntime", "openvino"),
            class_names=TASK_CLASSES,
            verbose=False,
        )
    except ExportError as refusal:
        return {"int8": "refused", "why": str(refusal)}
    parity = exported.check
    row = {"keras": parity.source_accuracy.value, "int8": parity.file_accuracy.value}
    row["same class"] = parity.same_top_class
    for each in exported.runtimes:
        row |= {each.name: each.parity.file_accuracy.value, f"{each.name}, × fp32": each.times_fp32}
    return row


if __name__ == "__main__":
    main()
