"""Models that load and then fail: an error that names node and message, and rows that are safe."""

import csv
import gc
import pickle
from pathlib import Path

import command_fuzz
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kerasxfer_serving import Predictor
from kerasxfer_serving.commands import application
from kerasxfer_serving.errors import DeviceError, ModelError
from kerasxfer_serving.inputs.input import decode_input, given_input
from kerasxfer_serving.outputs.tables import without_formulas
from kerasxfer_serving.runtime.opening import open_session
from onnx import TensorProto, helper, numpy_helper
from PIL import Image


def predict(*arguments):
    return command_fuzz.run(application, "kerasxfer-serving", ["predict", *map(str, arguments)])


@pytest.fixture
def images(draw_colours, tmp_path):
    return Path(next(iter(draw_colours(tmp_path / "images", 12)))).parent


@pytest.fixture
def altered(model, tmp_path):
    """`altered(*nodes, constants)`: the model with nodes between its scores and its softmax, or after that."""

    def alter(*nodes, kind=TensorProto.FLOAT, behind=False, **constants):
        proto = onnx.load(model)
        softmax = proto.graph.node[-1]
        proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        if behind:
            softmax.output[0] = "before"
            proto.graph.node.extend(nodes)
            del proto.graph.output[:]
            proto.graph.output.append(helper.make_tensor_value_info("probabilities", kind, None))
        else:
            softmax.input[0] = "after"
            for place, node in enumerate(nodes, len(proto.graph.node) - 1):
                proto.graph.node.insert(place, node)
        onnx.save(proto, tmp_path / "altered.onnx")
        return tmp_path / "altered.onnx"

    return alter


def test_a_node_that_fails_is_named(altered, images, tmp_path):
    node = helper.make_node("Reshape", ["scores", "shape"], ["after"], "into_five")
    path = altered(node, shape=np.array([-1, 5]))
    done = predict(path, images, "-o", tmp_path / "rows.csv", "--batch-size", 2)
    assert done.status == 1
    assert "The model fails on a batch of 2 images" in done.stderr
    assert "into_five" in done.stderr


def test_what_was_done_before_a_node_failed_is_resumed(altered, images, tmp_path):
    """The model reshapes its scores to two rows: the last batch, of one image, does not fit."""
    one_more = images / "99999.png"
    one_more.write_bytes((images / "00000.png").read_bytes())
    path = altered(helper.make_node("Reshape", ["scores", "shape"], ["after"], "two_rows"), shape=np.array([2, 3]))
    out = tmp_path / "rows.csv"
    done = predict(path, images, "-o", out, "--batch-size", 2, "--part-rows", 4)
    assert done.status == 1
    assert "batch of 1 images" in done.stderr
    assert not out.exists()
    one_more.unlink()
    assert predict(path, images, "-o", out, "--batch-size", 2, "--part-rows", 4, "--resume").status == 0
    assert len(out.read_text().splitlines()) == 13


@pytest.mark.parametrize(
    ("kind", "node", "message"),
    [
        (TensorProto.STRING, helper.make_node("Cast", ["before"], ["probabilities"], to=TensorProto.STRING), "string"),
        (TensorProto.INT64, helper.make_node("Cast", ["before"], ["probabilities"], to=TensorProto.INT64), "int64"),
        (TensorProto.FLOAT, helper.make_node("ReduceMean", ["before"], ["probabilities"], keepdims=0), "shape"),
    ],
    ids=["string", "integer", "scalar"],
)
def test_outputs_that_are_no_rows_of_numbers(altered, images, kind, node, message):
    done = predict(altered(node, kind=kind, behind=True), images)
    assert done.status == 1, done
    assert done.stderr.count("Error: ") == 1
    assert message in done.stderr


def test_an_output_that_is_a_sequence(model, images, tmp_path):
    proto = onnx.load(model)
    proto.graph.node[-1].output[0] = "before"
    proto.graph.node.append(helper.make_node("SequenceConstruct", ["before"], ["probabilities"]))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_sequence_value_info("probabilities", TensorProto.FLOAT, None))
    onnx.save(proto, tmp_path / "sequence.onnx")
    done = predict(tmp_path / "sequence.onnx", images)
    assert done.status == 1
    assert "Error: " in done.stderr


def test_an_output_that_is_not_there(model):
    with pytest.raises(ModelError, match=r"must have the output `features` that is asked for. Received: \['prob"):
        open_session(model, "cpu", outputs=["probabilities", "features"])


def test_a_closed_predictor_says_so_and_can_be_made_again(model, images):
    predictor = Predictor(model, device="cpu")
    session = predictor.session
    predictor.close()
    with pytest.raises(ModelError, match="terminate"):
        session.run(np.zeros((1, 8, 10, 3), np.uint8))
    with pytest.raises(ModelError, match="is closed"):
        predictor.predict(images / "00000.png")
    assert pickle.loads(pickle.dumps(predictor)).predict(images / "00000.png").ok.all()


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_that_is_named_and_not_there_is_refused(model, device):
    with pytest.raises(DeviceError):
        Predictor(model, device=device, gpu_ids=[99])
    assert Predictor(model, device="auto").device in ("cpu", "cuda")


def test_the_command_refuses_a_gpu_that_is_not_there(model, images):
    done = predict(model, images, "--gpu-id", 99)
    assert done.status == 1
    assert done.stdout == ""


def test_errors_of_images_hold_on_to_no_memory(predictor_of_large_images, tmp_path):
    """Each of them is a row for as long as its batch is, and its pixels must not be."""
    path = tmp_path / "cut.jpg"
    Image.effect_noise((400, 300), 80).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:9000])
    errors = [predictor_of_large_images.decode(given_input(str(path), str(path))) for _ in range(3)]
    assert [error.code for error in errors] == ["truncated"] * 3
    assert [(error.__traceback__, error.__context__, error.__cause__) for error in errors] == [(None, None, None)] * 3
    gc.collect()
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Image.Image) and thing.size == (400, 300)]


@pytest.fixture
def predictor_of_large_images(model):
    with Predictor(model, device="cpu") as predictor:
        yield predictor


def test_an_error_that_nobody_foresaw_holds_on_to_nothing_either(predictor_of_large_images):
    class Strange:
        def __getattr__(self, name):
            raise RuntimeError("strange")

    manifest = predictor_of_large_images.manifest
    error = decode_input(given_input("x", Strange()), manifest.policy, manifest.image_size)
    assert error.code in ("error", "unsupported")
    assert error.__traceback__ is None


@given(st.text(), st.one_of(st.none(), st.floats(), st.integers(), st.lists(st.floats())))
def test_no_text_that_begins_like_a_formula_is_left(text, other):
    row = without_formulas({"path": text, "probability": other})
    assert not row["path"].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert row["path"].removeprefix("'") == text.removeprefix("'")
    assert row["probability"] is other


def test_cells_like_formulas_are_written_as_they_are_or_safely(model, images, tmp_path, monkeypatch):
    monkeypatch.chdir(images)
    name = '=HYPERLINK("x")&cmd|.png'
    (images / "00000.png").rename(images / name)
    for options, path in (((), name), (("--csv-safe",), f"'{name}")):
        done = predict(model, name, *options)
        assert done.status == 0, done
        (row,) = csv.DictReader(done.stdout.splitlines())
        assert row["path"] == path
    assert predict(model, name, "--csv-safe", "--format", "jsonl").status == 2
