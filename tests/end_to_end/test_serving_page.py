"""The server's page in a real browser."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

HOSTILE = "<img src=x onerror=window.hit=1>.png"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    paths = [folder / "red.png", folder / HOSTILE, folder / "broken.jpg"]
    Image.fromarray(np.full((40, 60, 3), (200, 30, 30), np.uint8)).save(paths[0])
    shutil.copy(paths[0], paths[1])
    paths[2].write_bytes(b"no image")
    return paths


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two classes by the mean of the red channel, as a file, with a name that is markup."""
    from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest
    from onnx import TensorProto, helper, numpy_helper, save

    weights = numpy_helper.from_array(np.array([[9.0, 0], [0, 9], [0, 0]], np.float32), "weights")
    scale = numpy_helper.from_array(np.array(1 / 255, np.float32), "scale")
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["first"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "red",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [weights, scale],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    manifest = Manifest(class_names=("red<b>", "other"), image_size=(8, 8))
    proto.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    path = tmp_path_factory.mktemp("model") / "red.onnx"
    save(proto, path)
    return path


def _serve(model, *options):
    command = [sys.executable, "-m", "kerasxfer_serving", "serve", model, "--port", "0", "--no-access-log", *options]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
    url = next(line.split()[2] for line in process.stderr if line.startswith("Serving at"))
    return process, url


@pytest.fixture(scope="module")
def url(model):
    process, url = _serve(f"{model}=red")
    yield url
    process.terminate()
    assert process.wait(30) == 0
    process.stderr.close()


def _wait_for_status(page, pattern):
    page.locator("#status", has_text=re.compile(pattern)).wait_for()  # the page's policy lets nothing be evaluated


def _classify(page, files):
    page.set_input_files("#files", files)
    _wait_for_status(page, r"classified|:")


@pytest.mark.parametrize("width", [1100, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_answers_fit_and_are_accessible(open_page, violations, url, files, width, scheme):
    page = open_page(url, width, scheme)
    _classify(page, files)
    answers = page.locator(".answer").all_text_contents()
    assert answers[1:] == ["red<b>", "red<b>"]
    assert answers[0].startswith("not_an_image")
    assert page.locator("#status").text_content() == "2 of 3 images classified."
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []
    assert page.errors == []
    assert all(request.startswith((url, "blob:", "data:")) for request in page.requests)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_documentation_is_accessible(open_page, violations, url, scheme):
    page = open_page(f"{url}/docs", 390, scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []


def test_works_by_keyboard(open_page, url, files):
    page = open_page(url)
    choosers = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.keyboard.press("Tab")  # the link to the documentation
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    page.keyboard.press("Space")
    while not choosers:
        page.wait_for_timeout(50)
    choosers[0].set_files(files[:1])
    _wait_for_status(page, "red")
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_files_are_dropped_and_the_request_is_shown(open_page, url, files):
    page = open_page(url)
    transfer = page.evaluate_handle(
        """bytes => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "it's.png", {type: "image/png"})); return data; }""",
        list(files[0].read_bytes()),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    page.wait_for_selector(".bars li")
    command = page.locator("#curl").text_content()
    assert command == f"curl --data-binary @'it'\\''s.png' '{url}/predict/red?top_k=5'"
    assert url in page.locator("#python").text_content()


def test_token_is_asked_for(open_page, model, files, tmp_path):
    (tmp_path / "tokens").write_text("sesame\n")
    process, url = _serve(f"{model}=red", "--token-file", tmp_path / "tokens")
    try:
        page = open_page(url)
        page.fill("#token", "sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-form", state="hidden")
        _classify(page, files[:1])
        assert page.locator(".answer").text_content() == "red<b>"
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()
