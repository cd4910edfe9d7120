import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kerasxfer_serving import ImagePolicy, Manifest, Predictor
from kerasxfer_serving.errors import ModelError, UsageError
from kerasxfer_serving.model.activation import find_activation
from kerasxfer_serving.model.class_names import normalise_class_names
from kerasxfer_serving.model.foreign import adapt, describe, read_labels, unique_names
from kerasxfer_serving.model.model_file import load_model_file
from kerasxfer_serving.model.normalisation import NORMALISATIONS, Normalisation
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 10, 3), dtype=np.uint8)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# As written in keras.applications.imagenet_utils and in torchvision's documentation.
EXPECTED = {
    "none": lambda pixels: pixels,
    "rescale": lambda pixels: pixels / 255,
    "tf": lambda pixels: pixels / 127.5 - 1,
    "caffe": lambda pixels: pixels[..., ::-1] - [103.939, 116.779, 123.68],
    "imagenet": lambda pixels: (pixels / 255 - MEAN) / STD,
}


def softmax(scores):
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


@pytest.fixture
def foreign(tmp_path, write_model):
    def write(**options):
        options = {"manifest": False, "dtype": "float", "scale": 0.05, "weights": np.eye(3), **options}
        return write_model(tmp_path / "foreign.onnx", **options)

    return write


@pytest.mark.parametrize("activation", ["Softmax", None])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("normalisation", EXPECTED)
def test_the_graph_gets_what_it_wants(foreign, normalisation, layout, activation):
    path = foreign(layout=layout, activation=activation)
    manifest = describe(load_model_file(path), normalisation=normalisation)
    assert (manifest.layout, manifest.image_size) == (layout, (8, 10))
    assert manifest.output == ("softmax" if activation else "logits")
    wanted = EXPECTED[normalisation](PIXELS.astype(np.float64)).mean(axis=(1, 2)) * 0.05
    answer = Predictor(path, manifest=manifest, device="cpu").predict(PIXELS)
    np.testing.assert_allclose(answer.probabilities, softmax(wanted), atol=1e-5)


def test_half_precision_and_a_fixed_batch(foreign):
    path = foreign(layout="nchw", dtype="float16", batch=2)
    manifest = describe(load_model_file(path), normalisation="tf")
    wanted = EXPECTED["tf"](PIXELS.astype(np.float64)).mean(axis=(1, 2)) * 0.05
    answer = Predictor(path, manifest=manifest, device="cpu").predict(PIXELS[:3])
    np.testing.assert_allclose(answer.probabilities, softmax(wanted)[:3], atol=1e-3)


def test_features_of_a_foreign_model(foreign):
    path = foreign(activation=None)
    manifest = describe(load_model_file(path), normalisation="rescale")
    predictions = Predictor(path, manifest=manifest, device="cpu", features=True).predict(PIXELS)
    np.testing.assert_allclose(predictions.features, PIXELS.mean(axis=(1, 2)) / 255 * 0.05, atol=1e-6)
    np.testing.assert_allclose(predictions.probabilities, softmax(predictions.features), atol=1e-6)


def test_a_sidecar_says_it_too(foreign):
    path = foreign(layout="nchw")
    said = {"class_names": ["a", "b", "c"], "image_size": [8, 10], "layout": "nchw", "normalisation": "tf"}
    path.with_name("foreign.onnx.json").write_text(json.dumps(said))
    wanted = EXPECTED["tf"](PIXELS.astype(np.float64)).mean(axis=(1, 2)) * 0.05
    answer = Predictor(path, device="cpu").predict(PIXELS)
    assert answer.class_names == ("a", "b", "c")
    np.testing.assert_allclose(answer.probabilities, softmax(wanted), atol=1e-5)


def test_what_the_graph_leaves_open_must_be_said(foreign):
    file = load_model_file(foreign(size=("height", "width")))
    with pytest.raises(ModelError, match="--image-size"):
        describe(file, normalisation="tf")
    manifest = describe(
        file, normalisation="tf", image_size=(8, 10), class_names=["x", "y", "z"], policy=ImagePolicy(resize="pad")
    )
    assert manifest.class_names == ("x", "y", "z")
    assert Predictor(file.path, manifest=manifest, device="cpu").predict(PIXELS).status == ["ok"] * 4


def test_class_names_are_numbered_where_nothing_is_known(foreign):
    manifest = describe(load_model_file(foreign()), normalisation="none")
    assert manifest.class_names == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize(
    ("name", "text"),
    [("l.txt", "cat\ndog\n\n"), ("l.json", '["cat", "dog"]'), ("l.json", '{"1": "dog", "0": "cat"}')],
)
def test_labels_from_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_labels(tmp_path / name) == ["cat", "dog"]


def test_labels_that_are_none(tmp_path):
    (tmp_path / "l.json").write_text("{")
    for name in ("l.json", "none.txt"):
        with pytest.raises(ModelError, match="not a list of labels"):
            read_labels(tmp_path / name)


def test_names_that_occur_twice_get_their_number():
    assert unique_names(["crane", "cat", "crane"]) == ("crane (0)", "cat", "crane (2)")


def test_an_output_that_is_not_there(tmp_path, write_model, model):
    manifest = Manifest(class_names=("a", "b", "c"), image_size=(8, 10), output_name="nothing")
    assert Predictor(model, manifest=manifest, device="cpu").predict(PIXELS).status == ["ok"] * 4  # there is only one


def test_a_model_without_dense_layer_has_no_features(model, tmp_path):
    import onnx

    proto = onnx.load(model)
    del proto.graph.node[3:]
    proto.graph.node[2].output[0] = "probabilities"
    onnx.save(proto, tmp_path / "mean.onnx")
    with pytest.raises(ModelError, match="dense layer"):
        Predictor(tmp_path / "mean.onnx", device="cpu", features=True)


CHAINS = {
    "cast": [("Cast", [], {"to": 11}), ("Cast", [], {"to": 1})],
    "identity": [("Identity", [], {})],
    "reshape": [("Reshape", ["flat_shape"], {})],
    "flatten": [("Flatten", [], {"axis": 1})],
    "squeeze": [("Unsqueeze", ["last"], {}), ("Squeeze", ["last"], {})],
    "clip": [("Clip", ["low", "high"], {})],
    "quantised": [("QuantizeLinear", ["step", "zero"], {}), ("DequantizeLinear", ["step", "zero"], {})],
}


class TestActivation:
    """What an output holds, told from the operator that decides and not from the last one."""

    @staticmethod
    def ending(path, *nodes, outputs=("probabilities",)):
        """The model at `path` with further nodes, each an operator and attributes, behind its scores or activation."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        proto = onnx.load(path)
        name = proto.graph.output[0].name
        proto.graph.initializer.extend(
            [
                numpy_helper.from_array(np.array([0, -1], np.int64), "flat_shape"),
                numpy_helper.from_array(np.array(0, np.float32), "low"),
                numpy_helper.from_array(np.array(1, np.float32), "high"),
                numpy_helper.from_array(np.array(1 / 255, np.float32), "step"),
                numpy_helper.from_array(np.array(0, np.uint8), "zero"),
                numpy_helper.from_array(np.array([3], np.int64), "third"),
                numpy_helper.from_array(np.array([-1], np.int64), "last"),
                numpy_helper.from_array(np.array(100, np.float32), "hundred"),
            ]
        )
        for number, (operator, more, attributes) in enumerate(nodes):
            proto.graph.node.append(helper.make_node(operator, [name, *more], [f"t{number}"], **attributes))
            name = f"t{number}"
        del proto.graph.output[:]
        for output in outputs:
            found = name if output == "probabilities" else output
            proto.graph.output.append(helper.make_tensor_value_info(found, TensorProto.FLOAT, ["batch", 3]))
        onnx.save(proto, path)
        return path

    @pytest.mark.parametrize("activation", ["Softmax", "Sigmoid", None])
    @pytest.mark.parametrize("chain", CHAINS)
    def test_what_leaves_values_alone_is_passed(self, foreign, chain, activation):
        if chain in ("clip", "quantised") and activation is None:
            pytest.skip("would change logits")
        path = self.ending(foreign(activation=activation), *CHAINS[chain])
        manifest = describe(load_model_file(path), normalisation="rescale")
        assert manifest.output == {"Softmax": "softmax", "Sigmoid": "sigmoid", None: "logits"}[activation]
        scores = PIXELS.mean(axis=(1, 2)) / 255 * 0.05
        expected = 1 / (1 + np.exp(-scores)) if activation == "Sigmoid" else softmax(scores)
        answer = Predictor(path, manifest=manifest, device="cpu").predict(PIXELS)
        np.testing.assert_allclose(answer.probabilities, expected, atol=1 / 255 if chain == "quantised" else 1e-5)

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        chain=st.lists(st.sampled_from([*sorted(CHAINS)]), max_size=4),
        activation=st.sampled_from(["Softmax", "Sigmoid", "LogSoftmax", None]),
    )
    def test_any_chain_of_them(self, foreign, chain, activation):
        path = self.ending(foreign(activation=activation), *(node for name in chain for node in CHAINS[name]))
        found = find_activation(load_model_file(path).proto, load_model_file(path).outputs[0].name)
        assert found.output == {"Softmax": "softmax", "Sigmoid": "sigmoid"}.get(activation, "logits")

    def test_inside_a_function(self, foreign):
        import onnx
        from onnx import helper

        path = foreign(activation="Softmax")
        proto = onnx.load(path)
        node = proto.graph.node[-1]
        inner = [
            helper.make_node("Softmax", ["x"], ["y"]),
            helper.make_node("Identity", ["y"], ["z"]),
        ]
        proto.functions.append(
            helper.make_function("local", "Head", ["x"], ["z"], inner, [helper.make_opsetid("", 18)])
        )
        node.domain, node.op_type = "local", "Head"
        proto.opset_import.append(helper.make_opsetid("local", 1))
        onnx.save(proto, path)
        assert describe(load_model_file(path), normalisation="rescale").output == "softmax"
        del proto.functions[0].node[0]
        proto.functions[0].node[0].input[0] = "x"
        onnx.save(proto, path)
        assert describe(load_model_file(path), normalisation="rescale").output == "logits"

    def test_a_softmax_in_single_steps(self, foreign):
        steps = [("Exp", [], {}), ("ReduceSum", ["last"], {"keepdims": 1})]
        path = self.ending(foreign(activation=None), *steps)
        import onnx
        from onnx import TensorProto, helper

        proto = onnx.load(path)
        proto.graph.node.append(helper.make_node("Div", ["t0", "t1"], ["p"]))
        del proto.graph.output[:]
        proto.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["batch", 3]))
        onnx.save(proto, path)
        assert describe(load_model_file(path), normalisation="rescale").output == "softmax"

    @pytest.mark.parametrize("end", [("Exp", [], {}), ("Tanh", [], {})])
    def test_what_the_graph_does_not_tell_is_asked(self, foreign, end):
        path = self.ending(foreign(activation=None), end)
        with pytest.raises(ModelError, match=r"cannot be told from the graph.*--activation"):
            describe(load_model_file(path), normalisation="rescale")
        assert describe(load_model_file(path), normalisation="rescale", output="sigmoid").output == "sigmoid"

    def test_percentages_are_asked_about_and_refused_on_data(self, foreign):
        path = self.ending(foreign(activation="Softmax"), ("Mul", ["hundred"], {}))
        with pytest.raises(ModelError, match="cannot be told"):
            describe(load_model_file(path), normalisation="rescale")
        manifest = describe(load_model_file(path), normalisation="rescale", output="softmax")
        with pytest.raises(ModelError, match=r"values are from .* to 3"):
            Predictor(path, manifest=manifest, device="cpu").predict(PIXELS)

    @pytest.mark.parametrize(
        ("activation", "said", "remedy"),
        [(None, "softmax", "logits"), (None, "sigmoid", "logits"), ("Sigmoid", "softmax", "sigmoid")],
    )
    def test_a_claim_that_the_first_batch_breaks_is_refused_with_the_option_that_mends_it(
        self, foreign, activation, said, remedy
    ):
        path = foreign(activation=activation, scale=0.5)
        manifest = describe(load_model_file(path), normalisation="none", output=said)
        with pytest.raises(ModelError, match=f"`--activation {remedy}`"):
            Predictor(path, manifest=manifest, device="cpu").predict(PIXELS)
        manifest = describe(load_model_file(path), normalisation="none", output=remedy)
        assert Predictor(path, manifest=manifest, device="cpu").predict(PIXELS).status == ["ok"] * 4

    @pytest.mark.parametrize("activation", ["Softmax", "Sigmoid"])
    def test_probabilities_said_to_be_logits_are_refused(self, foreign, activation):
        path = foreign(activation=activation)
        manifest = describe(load_model_file(path), normalisation="none", output="logits")
        with pytest.raises(ModelError, match=f"`--activation {activation.lower()}`"):
            Predictor(path, manifest=manifest, device="cpu")

    def test_several_outputs_are_asked_about(self, foreign):
        path = self.ending(foreign(activation="Softmax"), outputs=("mean", "probabilities"))
        file = load_model_file(path)
        with pytest.raises(ModelError, match=r"`--output NAME`.*`mean` \['batch', 3\], `probabilities`"):
            describe(file, normalisation="rescale")
        with pytest.raises(ModelError, match="Received: --output other"):
            describe(file, normalisation="rescale", output_name="other")
        manifest = describe(file, normalisation="rescale", output_name="probabilities")
        answer = Predictor(path, manifest=manifest, device="cpu").predict(PIXELS)
        np.testing.assert_allclose(answer.probabilities, softmax(PIXELS.mean(axis=(1, 2)) / 255 * 0.05), atol=1e-5)

    def test_an_output_without_figures_is_refused(self, foreign):
        import onnx

        path = foreign(activation="Softmax")
        proto = onnx.load(path)
        proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
        onnx.save(proto, path)
        with pytest.raises(ModelError, match=r"floating-point numbers. Received: string"):
            Predictor(path, manifest=describe(load_model_file(path), normalisation="none"), device="cpu")

    def test_features_that_are_not_there_are_refused(self, model):
        manifest = Manifest(class_names=("a", "b", "c"), image_size=(8, 10), features_name="nothing")
        with pytest.raises(ModelError, match=r"`features_name`.*'nothing'"):
            Predictor(model, manifest=manifest, device="cpu", features=True)

    @pytest.mark.parametrize("activation", ["Sigmoid", None])
    def test_a_single_column_is_the_second_of_two_classes(self, foreign, activation):
        path = foreign(activation=activation, weights=[[1.0], [2.0], [-3.0]], class_names=("no", "yes"))
        manifest = describe(load_model_file(path), normalisation="rescale", class_names=["no", "yes"])
        assert manifest.output == ("sigmoid" if activation else "logits")
        score = PIXELS.mean(axis=(1, 2)) / 255 * 0.05 @ [1, 2, -3]
        answer = Predictor(path, manifest=manifest, device="cpu").predict(PIXELS)
        np.testing.assert_allclose(answer.probabilities[:, 1], 1 / (1 + np.exp(-score)), atol=1e-6)
        np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1, atol=1e-6)
        assert describe(load_model_file(path), normalisation="rescale").class_names == ("class_0", "class_1")

    def test_as_many_names_as_classes(self, foreign):
        with pytest.raises(ModelError, match=r"name for each of the 3 classes.*2 names"):
            describe(load_model_file(foreign()), normalisation="none", class_names=["a", "b"])


class TestPixels:
    def test_mean_deviation_and_scale(self, foreign):
        path = foreign(layout="nchw", activation=None)
        normalisation = Normalisation(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), scale=1 / 127.5)
        manifest = describe(load_model_file(path), normalisation=normalisation)
        wanted = ((PIXELS / 127.5 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]).mean(axis=(1, 2)) * 0.05
        answer = Predictor(path, manifest=manifest, device="cpu").predict(PIXELS)
        np.testing.assert_allclose(answer.probabilities, softmax(wanted), atol=1e-5)
        assert Manifest.from_json(manifest.to_json()) == manifest

    @pytest.mark.parametrize(
        "said",
        [
            {"normalisation": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}},
            {"normalisation": "torch"},
            {"preset": "torchvision"},
            {"preset": "timm", "policy": {"exif": "ignore"}},
        ],
    )
    def test_a_sidecar_says_figures_or_a_preset(self, foreign, said):
        path = foreign()
        sidecar = {"class_names": ["a", "b", "c"], "image_size": [8, 10], **said}
        path.with_name("foreign.onnx.json").write_text(json.dumps(sidecar), "utf-8-sig")
        manifest = Manifest.read(path)
        assert manifest.find_normalisation() == NORMALISATIONS["imagenet"]
        policy = manifest.policy
        assert policy.crop_fraction == (0.875 if "preset" in said else None)
        assert policy.interpolation == ("bicubic" if said.get("preset") == "timm" else "bilinear")
        assert policy.exif == ("ignore" if "policy" in said else "apply")

    @pytest.mark.parametrize(
        "said",
        [
            {"normalisation": {"mean": [1, 2]}},
            {"normalisation": {"std": 0}},
            {"normalisation": {"scale": "1/255"}},
            {"normalisation": {"mean": [float("nan")]}},
            {"normalisation": {"mean": 10**400}},
            {"normalisation": {"median": 1}},
            {"preset": "lightning"},
            {"preset": ["timm"]},
            {"preset": "timm", "policy": 3},
        ],
    )
    def test_what_is_no_normalisation_is_refused(self, said):
        with pytest.raises(ModelError):
            Manifest.from_json(json.dumps({"class_names": ["a", "b"], "image_size": [8, 10], **said}))

    @pytest.mark.parametrize("layout", ["nhwc", "nchw"])
    @pytest.mark.parametrize("normalisation", ["none", "rescale", "tf", Normalisation(0.1307, 0.3081)])
    def test_a_greyscale_model_gets_pillows_grey(self, tmp_path, layout, normalisation):
        import onnx
        from onnx import TensorProto, helper

        shape = ["batch", 8, 10, 1] if layout == "nhwc" else ["batch", 1, 8, 10]
        nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("Softmax", ["flat"], ["p"])]
        graph = helper.make_graph(
            nodes,
            "grey",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["batch", 80])],
        )
        path = tmp_path / "grey.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
        manifest = describe(load_model_file(path), normalisation=normalisation)
        assert (manifest.layout, manifest.image_size) == (layout, (8, 10))
        grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in PIXELS]).astype(np.float64)
        wanted = {"none": grey, "rescale": grey / 255, "tf": grey / 127.5 - 1}.get(
            normalisation, (grey / 255 - 0.1307) / 0.3081
        )
        answer = Predictor(path, manifest=manifest, device="cpu").predict(PIXELS)
        np.testing.assert_allclose(answer.probabilities, softmax(wanted.reshape(4, -1)), atol=1e-5)
        with pytest.raises(ModelError, match="one mean"):
            Predictor(path, manifest=describe(load_model_file(path), normalisation="imagenet"), device="cpu")


FILES = {
    "l.txt": ["cat\ndog\n\n", "\ufeffcat\r\ndog", "cat \n dog"],
    "l.json": [
        '["cat", "dog"]', '{"1": "dog", "0": "cat"}', '{"dog": 1, "cat": 0}', '\ufeff["cat", "dog"]',
        '{"0": ["n01", "cat"], "1": ["n02", "dog"]}', '{"id2label": {"0": "cat", "1": "dog"}, "model_type": "vit"}',
        '[{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]',
    ],
    "l.csv": [
        "name,index\ndog,1\ncat,0\n", "id;label\n1;dog\n0;cat\n", "label\ncat\ndog\n", "cat\ndog\n", "0,cat\n",
    ],
    "l.tsv": ["index\tclass\n1\tdog\n0\tcat\n"],
}  # fmt: skip


class TestClassNames:
    @pytest.mark.parametrize(
        "names",
        [
            ["cat", "dog"],
            ("cat ", " dog"),
            {"dog": 1, "cat": 0},
            {1: "dog", 0: "cat"},
            {"1": "dog", "0": "cat"},
            {1: "cat", 2: "dog"},
            {"dog": np.int64(1), "cat": np.int64(0)},
            np.array(["cat", "dog"]),
            np.array(["cat", "dog"], dtype=object),
            (name for name in ("cat", "dog")),
        ],
    )
    def test_however_they_come(self, names):
        assert normalise_class_names(names) == ("cat", "dog")

    def test_numbers_are_names_too(self):
        assert normalise_class_names(np.array([3, 7])) == ("3", "7")
        assert normalise_class_names({"7": 0, "3": 1}) == ("7", "3")
        assert normalise_class_names({0: "1", 1: "0"}) == ("1", "0")

    @pytest.mark.parametrize(
        "names",
        [
            "cat",
            b"cat",
            None,
            3,
            {},
            {"cat": 0, "dog": 2},
            {"cat": 0, "dog": 0},
            ["cat", ""],
            ["cat", " "],
            ["cat", None],
            ["cat", "\udce9"],
            {"cat": True, "dog": False},
        ],
    )
    def test_what_says_no_order_or_no_name_is_refused(self, names):
        with pytest.raises(UsageError):
            normalise_class_names(names)

    @settings(max_examples=100)
    @given(st.lists(st.text("abc 1", min_size=1).map(str.strip).filter(bool), min_size=1, unique=True), st.randoms())
    def test_any_order_of_a_mapping_gives_the_order_of_the_indices(self, names, chance):
        indices = list(enumerate(names))
        chance.shuffle(indices)
        assert normalise_class_names({name: index for index, name in indices}) == tuple(names)
        assert normalise_class_names(dict(indices)) == tuple(names)

    @pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in FILES.items() for text in texts])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_files(self, tmp_path, name, text, encoding):
        if encoding == "utf-16":
            text = text.removeprefix("\ufeff")
        (tmp_path / name).write_bytes(text.encode(encoding))
        assert read_labels(tmp_path / name) == (["0"] if text == "0,cat\n" else ["cat", "dog"])

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("l.txt", b"caf\xe9\ndog"),
            ("l.json", b"3"),
            ("l.json", b"[" * 100_000),
            ("l.json", b"{}"),
            ("l.csv", b"id,name\n0,cat\n0,dog\n"),
            ("l.csv", b"id,name\n0,cat\n2,dog\n"),
            ("l.json", b"[1.5]"),
        ],
    )
    def test_files_that_are_none_are_refused_by_name(self, tmp_path, name, data):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=f"{name}` is not a list of labels"):
            read_labels(tmp_path / name)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_graph_is_it_is_described_or_refused(foreign, data):
    path = TestActivation.ending(foreign(activation="Softmax"), *CHAINS["reshape"], *CHAINS["clip"])
    changed = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(changed))
    with suppress(ModelError, UsageError):
        file = load_model_file(path)
        adapt(file, describe(file, normalisation="imagenet", layout=data.draw(st.sampled_from([None, "nchw"]))))
