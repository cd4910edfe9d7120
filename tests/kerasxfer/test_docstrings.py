"""Runs every example in a docstring: `>>>` lines with their answers, and fenced blocks in a folder with images."""

import ast
import doctest
import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import keras
import kerasxfer_serving
import numpy as np
import pytest
from PIL import Image

import kerasxfer

# An export, a benchmark, a cluster or thirty epochs: minutes rather than seconds.
LONG = re.compile(r"model\.onnx|a\.json|epochs=[23]0|ray_cluster")
ELSEWHERE = re.compile(r"http://|decoder=\"gpu\"|serve\.run")
FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def modules(package):
    """Names of a package's modules that hold a docstring with an example."""
    root = Path(find_spec(package).submodule_search_locations[0])
    for path in sorted(root.rglob("*.py")):
        names = (package, *path.relative_to(root).with_suffix("").parts)
        yield ".".join(names).removesuffix(".__init__"), path


def documented(tree, prefix=""):
    """Qualified names and docstrings of a module, its functions, classes and methods."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name, ast.get_docstring(node) or ""
            yield from documented(node, f"{prefix}{node.name}.")


def marks(docstring):
    if ELSEWHERE.search(docstring):
        return [pytest.mark.skip(reason="needs a server, a GPU or a cluster; it has a test of its own")]
    return [pytest.mark.slow] if LONG.search(docstring) else []


EXAMPLES = [
    pytest.param(module, docstring, id=f"{module}.{name}", marks=marks(docstring))
    for package in ("kerasxfer", "kerasxfer_serving")
    for module, path in modules(package)
    for name, docstring in documented(ast.parse(path.read_text(encoding="utf-8")))
    if ">>>" in docstring or FENCE.search(docstring)
]


def small_vgg(size):
    """A classifier of two classes whose layers are named like the last ones of VGG16."""
    conv = {"padding": "same", "activation": "relu"}
    layers = [
        keras.Input((*size, 3)),
        keras.layers.Conv2D(4, 3, name="block4_conv1", **conv),
        keras.layers.MaxPooling2D(4, name="block4_pool"),
        keras.layers.Conv2D(4, 3, name="block5_conv1", **conv),
        keras.layers.MaxPooling2D(2, name="block5_pool"),
    ]
    backbone = keras.Sequential(layers)
    model = kerasxfer.image_classifier(backbone, ["cats", "dogs"], size, preprocess="rescale")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    """An exported classifier of two classes on 150 × 150 images."""
    inputs = keras.Input((150, 150, 3))
    x = keras.layers.AveragePooling2D(10)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    kerasxfer.export_onnx(keras.Model(inputs, x), path, class_names=("cats", "dogs"), verbose=False)
    return path


@pytest.fixture(scope="module")
def benchmark_file(onnx_file, tmp_path_factory):
    """A report of a short benchmark of that model."""
    path = tmp_path_factory.mktemp("benchmark") / "report.json"
    kerasxfer_serving.benchmark(onnx_file, batch_sizes=(1,), scenarios=("offline",), duration=0.1).save(path)
    return path


@pytest.fixture
def surroundings(docstring, tmp_path, monkeypatch):
    """What the examples take for granted: a folder with images in it, data and a model."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("pets", "photos"):
        for name in ("cats", "dogs"):
            Path(folder, name).mkdir(parents=True)
            for number in range(5):
                pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(Path(folder, name, f"{number}.jpg"))
    Path("cat.jpg").write_bytes(Path("pets/cats/0.jpg").read_bytes())
    Path("broken.jpg").write_bytes(Path("cat.jpg").read_bytes()[:200])
    Path("list.txt").write_text("cat.jpg\n")
    size = (150, 150) if "(150, 150)" in docstring else (32, 32)
    train = kerasxfer.ImageFolder("pets", size, seed=1, validation_split=0.2, subset="training")
    images, labels = train[0]
    return {
        "keras": keras,
        "kerasxfer": kerasxfer,
        "np": np,
        "Path": Path,
        "model": small_vgg(size),
        "train": train,
        "dataset": train,
        "validation": kerasxfer.ImageFolder("pets", size, seed=1, validation_split=0.2, subset="validation"),
        "images": images,
        "labels": labels,
        "cache": kerasxfer.BottleneckCache("cache", verbose=0),
        "keys": [f"{number:064x}" for number in range(4)],
        "features": np.ones((4, 2), "float32"),
        "fingerprint": "f" * 64,
    }


@pytest.mark.parametrize(("module", "docstring"), EXAMPLES)
def test_example(module, docstring, surroundings, request):
    names = {**surroundings, **vars(importlib.import_module(module))}
    if "model.onnx" in docstring and "export_onnx" not in docstring:
        Path("model.onnx").write_bytes(request.getfixturevalue("onnx_file").read_bytes())
    if "a.json" in docstring:
        for name in ("a.json", "b.json"):
            Path(name).write_text(request.getfixturevalue("benchmark_file").read_text())
    for block in FENCE.findall(docstring):
        exec(compile(block, module, "exec"), names)
    test = doctest.DocTestParser().get_doctest(FENCE.sub("", docstring), names, module, None, 0)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report = []
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_there_are_examples_of_every_public_name():
    shown = "\n".join(example.id for example in EXAMPLES)
    for name in kerasxfer.__all__:
        if name not in ("__version__", "callbacks", "layers"):
            assert re.search(rf"\.{name}$", shown, re.MULTILINE), f"`{name}` has no example in its docstring"
