"""The recipes of `examples/` with genuine weights on real photographs: as published, and with our settings.

    KERAS_BACKEND=tensorflow python benchmarks/recipes.py --data IMAGES --weights FOLDER -o OUT [--only PART …]

IMAGES has `train` and `validation`, FOLDER the weights files. Every part and seed is added to `--results` as it ends,
and is not run again; the features that parts share lie in OUT/cache: a killed run goes on, on another machine too. In
the end, or at once with `--only` and no name, OUT/recipes.png is drawn, and the tables of
`--into benchmarks/results/recipes.md` are renewed.
"""

import argparse
import dataclasses
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import keras
from kerasxfer_serving import Predictor
from recipes_report import Results

import kerasxfer
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.histories import read_history
from kerasxfer.runs.training import train

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
RESULTS = Path(__file__).parent / "results" / "recipes.json"

VGG16 = ("--weights", "vgg16_imagenet_notop_fp16.weights.h5")
INCEPTION = ("--weights", "inception_v3_imagenet_notop_upto_mixed7_fp16.weights.h5", "--backbone-output", "mixed7")
PUBLISHED = ("--as-published",)
SGD = ("--optimizer", "sgd", "--learning-rate", "1e-3", "--fine-tune-rate", "1e-4")
OWN_PREPROCESSING = ("--preprocess", "caffe")


@dataclasses.dataclass(frozen=True)
class Part:
    """One recipe with its options; `copies` and `augmented` are the recipe's own arguments."""

    name: str
    module: str
    options: tuple[str, ...]
    arguments: dict[str, int] = dataclasses.field(default_factory=dict)
    held_out: bool = False  # a fifth of the training images in place of the validation images
    seeds: int = 3


BOTTLENECK, COPIES = "bottleneck_features", "feature_extraction_with_augmentation"
SCRATCH, FINE_TUNED, CUSTOM = "small_convnet_from_scratch", "fine_tune_last_block", "inception_v3_custom_classes"
TUNED = ("--fine-tune-epochs", "4")
COPIED = ("--copies", "3", "--fine-tune-epochs", "6")
PARTS = (
    Part("fine-tuned-ours-held-out", FINE_TUNED, (*VGG16, *TUNED), held_out=True, seeds=1),
    Part("fine-tuned-ours", FINE_TUNED, (*VGG16, *TUNED)),
    Part("bottleneck-ours", BOTTLENECK, VGG16),
    Part("bottleneck-ours-held-out", BOTTLENECK, VGG16, held_out=True),
    Part("bottleneck-published-preprocessed", BOTTLENECK, (*PUBLISHED, *VGG16, *OWN_PREPROCESSING)),
    Part("fine-tuned-copies-3-ours", FINE_TUNED, (*VGG16, *COPIED)),
    Part("copies-3-ours", COPIES, VGG16, {"copies": 3}),
    Part("inception-ours", CUSTOM, (*INCEPTION, "--unfreeze", "1")),
    Part("inception-published", CUSTOM, (*PUBLISHED, *INCEPTION, "--unfreeze", "1")),
    Part("fine-tuned-published-sgd", FINE_TUNED, (*PUBLISHED, *VGG16, *SGD, "--fine-tune-epochs", "10"), seeds=1),
    Part("bottleneck-published", BOTTLENECK, (*PUBLISHED, *VGG16)),
    Part("bottleneck-published-held-out", BOTTLENECK, (*PUBLISHED, *VGG16), held_out=True),
    Part("scratch-augmented-ours", SCRATCH, (), {"augmented": True}),
    Part("scratch-published", SCRATCH, (*PUBLISHED, "--epochs", "15"), {"augmented": False}),
    Part("scratch-augmented-published", SCRATCH, PUBLISHED, {"augmented": True}),
    Part("copies-5-ours", COPIES, VGG16, {"copies": 5}),
    Part("copies-5-published-preprocessed", COPIES, (*PUBLISHED, *VGG16, *OWN_PREPROCESSING), {"copies": 5}),
    Part("copies-10-ours", COPIES, VGG16, {"copies": 10}),
    Part("copies-5-published", COPIES, (*PUBLISHED, *VGG16), {"copies": 5}),
    Part("fine-tuned-published", FINE_TUNED, (*PUBLISHED, *VGG16, "--fine-tune-epochs", "10"), seeds=1),
)
# What `kerasxfer train DATA` does of itself, with no option but those that the weights files need.
NEWCOMERS: dict[str, dict[str, object]] = {
    "train-vgg16": {"backbone": "VGG16", "weights": VGG16[1]},
    "train-inception": {"backbone": "InceptionV3", "weights": INCEPTION[1], "backbone_output": "mixed7"},
    "train-mobilenet": {
        "backbone": "MobileNet",
        "weights": "mobilenet_v1_075_224_imagenet_notop.weights.h5",
        "backbone_args": {"alpha": 0.75},
    },
}
SEEDS = {part.name: part.seeds for part in PARTS} | dict.fromkeys(NEWCOMERS, 3)


def run_newcomer(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Train as the command does by default; the accuracy is that of the epoch that it keeps."""
    settings = NEWCOMERS[name] | {"weights": str(arguments.weights / str(NEWCOMERS[name]["weights"]))}
    data, cache = arguments.data, str(arguments.out / "cache")
    config = TrainConfig(str(data / "train"), str(data / "validation"), cache=cache, seed=seed, **settings)
    folder = arguments.out / f"{name}-{seed}"
    record = train(config, folder, overwrite=True)
    return {"accuracy": record.result["accuracy"], "seconds": record.seconds, "history": read_history(folder)}


def run(part: Part, seed: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Run a part once."""
    from _common import arguments as read

    module = importlib.import_module(part.module)
    options = [str(arguments.weights / each) if each.endswith(".h5") else each for each in part.options]
    data = [str(arguments.data / "train")]
    data += [] if part.held_out else ["--validation", str(arguments.data / "validation")]
    folders = ["--out", str(arguments.out / f"{part.name}-{seed}"), "--cache", str(arguments.out / "cache")]
    # All seeds share the augmented copies, which belong to the seed of the images.
    copies = "copies" in part.arguments or "--copies" in part.options
    own_seed = ["--seed", "0" if copies else str(seed)]
    args = read("", **module.OPTIONS, argv=[*data, *options, *folders, *own_seed])
    keras.utils.set_random_seed(seed)
    return dataclasses.asdict(module.run(args, **part.arguments))


def export(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Export a fine-tuned model in fp32 and int8, and time both from files to answers."""
    models = sorted(arguments.out.glob("fine-tuned-ours-?/fine-tuned.keras"))
    if not models:
        return {}
    images = kerasxfer.ImageFolder(arguments.data / "validation", (150, 150), shuffle=False)
    paths = [images.root / path for path in images.paths]
    table = {}
    for precision in ("fp32", "int8"):
        path = arguments.out / f"{precision}.onnx"
        calibration = arguments.data / "train" if precision == "int8" else None
        kerasxfer.export_onnx(models[0], path, precision=precision, calibration=calibration)
        with Predictor(path) as predictor:
            predictor.predict(paths[:32])
            start = time.perf_counter()
            answers = predictor.predict(paths).labels
            rate = len(paths) / (time.perf_counter() - start)
        right = sum(answer == images.class_names[label] for answer, label in zip(answers, images.labels, strict=True))
        table[precision] = {"accuracy": right / len(paths), "rate": rate}
    return table


def missing(results: Results, arguments: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Parts and seeds that have no result, the first seed of all parts first."""
    for seed in range(arguments.seeds):
        for name in SEEDS:
            wanted = arguments.only is None or name in arguments.only
            if wanted and seed < SEEDS[name] and not results.have(name, seed):
                yield name, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of features, models and the figure")
    parser.add_argument("--only", nargs="*", choices=[*SEEDS, "exported"], help="parts; none: the report")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of what has been run")
    parser.add_argument("--into", type=Path, nargs="*", default=[], help="Markdown files whose tables to renew")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="on TensorFlow: convolve in bfloat16, twice as fast if the CPU can",
    )
    arguments = parser.parse_args()
    if arguments.bfloat16:
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = Results(arguments.results)
    recipes = {part.name: part for part in PARTS}
    for name, seed in missing(results, arguments):
        result = run(recipes[name], seed, arguments) if name in recipes else run_newcomer(name, seed, arguments)
        what = {"part": name, "seed": seed, "backend": keras.backend.backend(), "bfloat16": arguments.bfloat16}
        results.add(result | what)
        print(f"{name}, seed {seed}: {result['accuracy']:.4f}, {result['seconds']:.0f} s", flush=True)
    if (arguments.only is None or "exported" in arguments.only) and not results.exported:
        results.add_exported(export(arguments))
    results.write_report(arguments.out / "recipes.png", arguments.into)


if __name__ == "__main__":
    main()
