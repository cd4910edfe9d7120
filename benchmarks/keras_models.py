"""A classifier as .keras, .onnx and int8 .onnx with random weights: for speed, since no answer of it means anything.

    python benchmarks/keras_models.py VGG16 FOLDER [--size 150] [--backbone-args alpha=0.35] [--calibration IMAGES]

Time does not depend on what the weights know; He's scale keeps the activations in the range that training would give.
"""

import argparse
import ast
import tempfile
from pathlib import Path

import numpy as np

CLASSES = ("first", "second")


def random_classifier(backbone, size, **backbone_kwargs):
    """Preprocessing, backbone, global average pooling, a hidden layer; the weights drawn (seeded)."""
    import keras

    import kerasxfer

    keras.utils.set_random_seed(0)
    model = kerasxfer.image_classifier(
        backbone,
        CLASSES,
        (size, size),
        weights=None,
        head="average-256",
        dropout=0.5,
        backbone_kwargs=backbone_kwargs,
    )
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith("kernel"):
            variable.assign(rng.normal(0, np.sqrt(2 / np.prod(variable.shape[:-1])), variable.shape))
        elif variable.path.endswith("bias"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


def save_int8(path, size, images=None):
    """The int8 twin of an exported file, beside it."""
    import onnx
    from kerasxfer_serving.images import ImagePolicy

    from kerasxfer.export.precision import to_int8
    from kerasxfer.export.proof import choose_samples

    images = choose_samples(images, 200 if images else 32, (size, size), ImagePolicy()).images
    twin = path.with_name(f"{path.stem}-int8.onnx")
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(to_int8(onnx.load(path), images, Path(folder)), twin)
    return twin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--backbone-args", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--calibration", help="images for int8; drawn ones without it")
    arguments = parser.parse_args()
    import kerasxfer

    pairs = (pair.split("=", 1) for pair in arguments.backbone_args)
    options = {name: ast.literal_eval(value) for name, value in pairs}
    model = random_classifier(arguments.backbone, arguments.size, **options)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    place = arguments.folder / arguments.backbone
    model.save(place.with_suffix(".keras"))
    kerasxfer.export_onnx(model, place.with_suffix(".onnx"), class_names=CLASSES)
    save_int8(place.with_suffix(".onnx"), arguments.size, arguments.calibration)


if __name__ == "__main__":
    main()
