"""Files as Keras 2.15 wrote them: a Keras 3 file's weights under the configuration that Keras 2 has for the model."""

import json

import h5py
import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import ModelError

from kerasxfer.keras_files import load_model

layers = keras.layers
SIZE = (8, 8, 3)
REVERSED = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, *SIZE)).astype("float32")


@pytest.fixture
def check(tmp_path, images):
    """Save a Keras 3 model, put a Keras 2 configuration into the file, and compare what it answers then."""

    def compare(model, config):
        rng = np.random.default_rng(1)
        model.set_weights([rng.uniform(0.1, 1, weight.shape) / 8 for weight in model.get_weights()])
        loaded = load_model(keras_2_file(tmp_path / "model.h5", model, config))
        expected = model.predict(images, verbose=0)
        assert np.ptp(expected, axis=0).min() > 1e-4  # it tells the images apart
        np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, rtol=1e-5, atol=1e-6)

    return compare


def keras_2_file(path, model, config):
    model.save(path)
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = json.dumps(config)
    return path


def layer(class_name, name, *nodes, **config):
    config = {"name": name, "trainable": True, "dtype": "float32", **config}
    return {"class_name": class_name, "config": config, "name": name, "inbound_nodes": list(nodes)}


def called(name, node=0, **arguments):
    return [name, node, 0, arguments]


def entry(name="input_1"):
    return layer("InputLayer", name, batch_input_shape=[None, *SIZE], sparse=False, ragged=False)


def functional(name, *parts, output=None):
    ends = {"input_layers": [[parts[0]["name"], 0, 0]], "output_layers": [output or [parts[-1]["name"], 0, 0]]}
    return {"class_name": "Functional", "config": {"name": name, "trainable": True, "layers": list(parts), **ends}}


def operation(name, function, tensor, kind="TFOpLambda", **arguments):
    return layer(kind, name, called(tensor, **arguments), function=function)


def head(tensor, node=0):
    return (
        layer("GlobalAveragePooling2D", "pool", [called(tensor, node)], data_format="channels_last", keepdims=False),
        layer("Dense", "dense", [called("pool")], units=2, activation="linear", use_bias=True),
    )


def convolution(tensor, kind="Conv2D", **config):
    config = {"kernel_size": [3, 3], "strides": [1, 1], "padding": "same", "activation": "relu", **config}
    return layer(kind, "conv", [called(tensor)], **config)


def classifier(*middle):
    return keras.Sequential([keras.Input(SIZE), *middle, layers.GlobalAveragePooling2D(), layers.Dense(2)])


def test_a_nested_backbone_behind_augmentation(check):
    norm = {"axis": [3], "momentum": 0.99, "epsilon": 0.001, "center": True, "scale": True}
    norm = layer("BatchNormalization", "bn", [called("conv")], **norm)
    backbone = functional("base", entry("input_2"), convolution("input_2", filters=4), norm)
    flip = {"class_name": "RandomFlip", "config": {"name": "flip", "rng_type": "stateful", "mode": "vertical"}}
    first = {"class_name": "InputLayer", "config": entry("flip_input")["config"]}
    augmentation = {"class_name": "Sequential", "config": {"name": "augment", "layers": [first, flip]}}
    config = functional(
        "model",
        entry(),
        {**augmentation, "name": "augment", "inbound_nodes": [[called("input_1")]]},
        {**backbone, "name": "base", "inbound_nodes": [[called("augment", 1, training=False)]]},
        *head("base", 1),
    )
    base = keras.Sequential(
        [keras.Input(SIZE), layers.Conv2D(4, 3, padding="same", activation="relu"), layers.BatchNormalization()]
    )
    check(classifier(base), config)


def test_a_backbone_in_a_sequential_model(check):
    base = functional("base", entry("input_2"), convolution("input_2", filters=4))
    parts = [{key: part[key] for key in ("class_name", "config")} for part in head("base")]
    config = {"class_name": "Sequential", "config": {"name": "model", "layers": [base, *parts]}}
    ours = keras.Sequential([keras.Input(SIZE), layers.Conv2D(4, 3, padding="same", activation="relu")])
    check(classifier(ours), config)


@pytest.mark.parametrize("kind", ["DepthwiseConv2D", "SeparableConv2D"])
def test_arguments_that_keras_3_does_not_know(check, kind):
    more = {"filters": 4, "kernel_initializer": None} if kind == "SeparableConv2D" else {}
    model = functional("model", entry(), convolution("input_1", kind, groups=1, **more), *head("conv"))
    ours = getattr(layers, kind)
    check(classifier(ours(*([4] if more else []), kernel_size=3, padding="same", activation="relu")), model)


def test_names_with_a_slash(check):
    block = convolution("input_1", filters=4)
    block["name"] = block["config"]["name"] = "block/conv"
    check(
        classifier(layers.Conv2D(4, 3, padding="same", activation="relu")),
        functional("model", entry(), block, *head("block/conv")),
    )


TF = [("math.truediv", {"y": 127.5}), ("math.subtract", {"y": 1.0})]
TORCH = [
    ("math.truediv", {"y": 255.0}),
    ("nn.bias_add", {"bias": [-0.485, -0.456, -0.406], "data_format": "NHWC"}),
    ("math.truediv", {"y": [0.229, 0.224, 0.225]}),
]
CAFFE = [
    ("__operators__.getitem", {"slice_spec": REVERSED}),
    ("nn.bias_add", {"bias": [-103.93900299072266, -116.77899932861328, -123.68000030517578], "data_format": "NHWC"}),
]


@pytest.mark.parametrize(("steps", "application"), [(TF, "xception"), (TORCH, "densenet"), (CAFFE, "vgg16")])
def test_preprocess_input_that_was_called_on_the_input(check, steps, application):
    parts, last = [entry()], "input_1"
    for k, (function, arguments) in enumerate(steps):
        kind = "SlicingOpLambda" if "slice_spec" in arguments else "TFOpLambda"
        parts.append(operation(f"op_{k}", function, last, kind, **arguments))
        last = f"op_{k}"
    preprocess_input = getattr(keras.applications, application).preprocess_input
    check(classifier(layers.Lambda(preprocess_input)), functional("model", *parts, *head(last)))


def test_sums_and_products(check):
    config = functional(
        "model",
        entry(),
        operation("double", "math.multiply", "input_1", y=2.0),
        operation("more", "__operators__.add", "double", y=3.0),
        operation("both", "__operators__.add", "more", y=["input_1", 0, 0]),
        *head("both"),
    )
    check(classifier(layers.Rescaling(3.0, 3.0)), config)


@pytest.mark.parametrize("module", ["tf_keras.src.applications.vgg16", "keras.src.applications.vgg16"])
def test_a_lambda_of_an_application_is_taken_from_there_and_its_code_not_run(check, module):
    code = {"function": ["bm90IGNvZGU=", None, None], "function_type": "lambda", "module": module}
    code |= {"output_shape": None, "output_shape_type": "raw", "output_shape_module": None, "arguments": {}}
    config = functional("model", entry(), layer("Lambda", "lambda", [called("input_1")], **code), *head("lambda"))
    check(classifier(layers.Lambda(keras.applications.vgg16.preprocess_input)), config)


@pytest.mark.parametrize(
    "step",
    [
        operation("op", "image.resize", "input_1", size=[4, 4]),
        operation("op", "__operators__.getitem", "input_1", "SlicingOpLambda", slice_spec=REVERSED),
        operation("op", "math.subtract", "_CONSTANT_VALUE", y=["input_1", 0, 0]),
        layer(
            "Lambda",
            "op",
            [called("input_1")],
            function=["bm8=", None, None],
            function_type="lambda",
            module="__main__",
        ),
    ],
    ids=["function", "slice", "constant first", "code"],
)
def test_what_keras_3_has_no_word_for_is_refused_with_what_reads_it(tmp_path, step):
    path = keras_2_file(tmp_path / "model.h5", classifier(), functional("model", entry(), step, *head("op")))
    with pytest.raises(ModelError, match=r"tf_keras\.models\.load_model\('.*model\.h5'\)\.export\(\"saved\"\)"):
        load_model(path)
