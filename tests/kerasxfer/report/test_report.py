import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from kerasxfer_serving.errors import KerasxferError, ModelError

from kerasxfer.report import build_report


class Text(HTMLParser):
    """What a reader sees: the text outside of scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.words, self.skip, self.tags = [], 0, []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.skip += tag in ("script", "style")

    def handle_endtag(self, tag):
        self.skip -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.skip and data.strip():
            self.words.append(" ".join(data.split()))

    @property
    def text(self):
        return " ".join(self.words)


def page_of(*runs, tmp_path, **kwargs):
    output = tmp_path / "out" / "report.html"
    results = build_report(runs, output, **kwargs)
    return output.read_text(encoding="utf-8"), results


def change_config(run, **changes):
    file = run / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_shows_every_section(run, tmp_path):
    change_config(run, augment={"horizontal_flip": True})
    page, (result,) = page_of(run, tmp_path=tmp_path)
    text = Text(page).text
    for heading in (
        "Curves", "Stages", "Confusion matrix", "Classes", "Calibration", "Most confident mistakes",
        "Least certain images", "Augmentation", "What was run",
    ):  # fmt: skip
        assert heading in text
    right = len(result.predictions.labels) - len(result.evaluation.mistakes)
    assert 0 < len(result.evaluation.mistakes) < 60
    assert f"{100 * right / 60:.1f} % ±" in text
    assert "95 % CI" in text
    assert "1 min 15 s" in text
    assert "head → block5" in text


def test_the_gallery_names_the_mistakes(run, tmp_path):
    page, (result,) = page_of(run, tmp_path=tmp_path)
    worst = result.predictions.paths[result.evaluation.mistakes[0]]
    assert worst in Text(page).text
    assert page.count("data:image/jpeg;base64,") == min(18, len(result.evaluation.mistakes)) + 18


def test_probabilities_are_the_models_in_the_order_of_the_paths(run, run_folders, tmp_path):
    _, (result,) = page_of(run, tmp_path=tmp_path)
    assert result.predictions.paths == sorted(result.predictions.paths)
    assert [path.split("/")[0] for path in result.predictions.paths] == ["amber"] * 20 + ["green"] * 20 + ["red"] * 20
    assert result.predictions.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_one_sigmoid_unit_is_the_second_class(run_folders, tmp_path):
    run = run_folders.make_run(tmp_path / "two", ["a-red", "b-green"], per_class=9)
    _, (result,) = page_of(run, tmp_path=tmp_path)
    assert result.predictions.probabilities.shape == (18, 2)
    assert result.evaluation.accuracy.value == 1.0


def test_says_that_there_are_no_mistakes(run_folders, tmp_path):
    run = run_folders.make_run(tmp_path / "two", ["a-red", "b-green"], per_class=9)
    page, _ = page_of(run, tmp_path=tmp_path)
    assert "There are none: every image is right." in Text(page).text


def test_a_validation_split_is_made_again(run, tmp_path):
    change_config(run, validation=None, validation_split=0.25)
    _, (result,) = page_of(run, tmp_path=tmp_path)
    assert len(result.predictions.paths) == 15


def test_other_data_are_taken_where_given(run, run_folders, tmp_path):
    data = run_folders.draw_class_folders(tmp_path / "other", ["amber", "green", "red"], per_class=3)
    _, (result,) = page_of(run, data=data, tmp_path=tmp_path)
    assert len(result.predictions.paths) == 9


def test_other_classes_are_refused(run, run_folders, tmp_path):
    data = run_folders.draw_class_folders(tmp_path / "other", ["blue", "white"], per_class=3)
    with pytest.raises(KerasxferError, match="`--data` must hold the classes of"):
        page_of(run, data=data, tmp_path=tmp_path)


def test_unreadable_images_are_left_out_and_named(run, tmp_path):
    data = tmp_path / "three-data"
    (data / "red" / "00.png").write_bytes(b"no image")
    page, (result,) = page_of(run, tmp_path=tmp_path)
    assert len(result.predictions.paths) == 59
    assert "1 images could not be read and are left out: red/00.png" in Text(page).text


def test_without_its_images_the_curves_are_shown(run, tmp_path):
    shutil.rmtree(tmp_path / "three-data")
    page, (result,) = page_of(run, tmp_path=tmp_path)
    assert result.evaluation is None
    text = Text(page).text
    assert "are not there" in text
    assert "Curves" in text
    assert "Confusion matrix" not in text


def test_an_unfinished_run_shows_its_curves(run, tmp_path):
    (run / "model.keras").unlink()
    for key in ("class_names", "images", "versions", "backend", "command", "seconds", "result", "weights_sha256"):
        config = json.loads((run / "config.json").read_text())
        config.pop(key, None)  # `kerasxfer train` once wrote them at the end
        (run / "config.json").write_text(json.dumps(config))
    page, _ = page_of(run, tmp_path=tmp_path)
    assert "was not finished" in Text(page).text


def test_many_classes_get_a_heat_map(run_folders, tmp_path):
    run = run_folders.make_run(tmp_path / "many", [f"class {i:02d}" for i in range(24)], per_class=3)
    page, _ = page_of(run, tmp_path=tmp_path)
    assert '"type": "heatmap"' in page
    assert "Most frequent confusions" in page


def test_runs_are_compared(run, run_folders, tmp_path):
    other = run_folders.make_run(tmp_path / "other", ["amber", "green", "red"], per_class=20, epochs=4)
    change_config(other, validation=str(tmp_path / "three-data"))
    page, _ = page_of(run, other, tmp_path=tmp_path)
    text = Text(page).text
    assert "three and other: training report" in text
    assert "three is right on 0 images that other gets wrong" in text
    assert "that it gets right, which may be chance (exact McNemar test, p = 1)" in text


def test_runs_on_other_images_are_not_compared_image_by_image(run, run_folders, tmp_path):
    other = run_folders.make_run(tmp_path / "other", ["amber", "green", "red"], per_class=5)
    page, _ = page_of(run, other, tmp_path=tmp_path)
    assert "were not measured on the same images" in Text(page).text


def test_names_are_text_and_nothing_else(run_folders, tmp_path):
    names = ["<img src=x onerror=alert(1)>", "<script>alert(2)", "\" onload='alert(3)' {{ 7 * 7 }} &amp;"]
    run = run_folders.make_run(tmp_path / "<b>run<script>", names, per_class=10)
    page, _ = page_of(run, tmp_path=tmp_path)
    read = Text(page)
    assert read.tags.count("script") == 2 + len(re.findall('type="application/json"', page))
    assert "b" not in read.tags
    for name in names:
        assert " ".join(name.split()) in read.text
    for tag in re.findall(r"<img[^>]*>", page):
        assert "onerror=" not in tag or "alert" not in re.sub(r'"[^"]*"', "", tag)


def test_fetches_nothing(run, tmp_path):
    page, _ = page_of(run, tmp_path=tmp_path)
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*\"", without_scripts)
    assert "url(" not in without_scripts
    assert "default-src 'none'" in page


def test_shows_the_parity_of_an_export(run, tmp_path):
    onnx = pytest.importorskip("onnx")
    from kerasxfer_serving.model.manifest import METADATA_KEY, Manifest

    parity = {"pictures": 16, "max_difference_below": 1e-6, "file_accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}}
    manifest = Manifest(class_names=("amber", "green", "red"), image_size=(24, 24), parity=parity)
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)])
    onnx.helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    onnx.save(model, run / "model.onnx")
    page, _ = page_of(run, tmp_path=tmp_path)
    assert "max difference below 1e-06" in Text(page).text
    assert "file accuracy, value 0.9" in Text(page).text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(KerasxferError, match=r"must be a run folder .* without config\.json"):
        page_of(tmp_path, tmp_path=tmp_path)


def test_a_broken_onnx_file_is_named(run, tmp_path):
    (run / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"model\.onnx` cannot be shown"):
        page_of(run, tmp_path=tmp_path)


def test_uneven_classes_show_their_recalls_before_the_accuracy(run, tmp_path):
    for image in sorted((run.parent / "three-data" / "red").iterdir())[2:]:
        image.unlink()
    page, (result,) = page_of(run, tmp_path=tmp_path)
    text = Text(page).text
    assert text.index("Balanced accuracy") < text.index(" Accuracy ")
    assert text.index("Figures of each class") < text.index("Confusion matrix")
    assert "Class Recall 95 % interval Precision F1 Images" in text
    recalls = [each.recall.value for each in result.evaluation.classes]
    assert result.evaluation.balanced_accuracy.value == pytest.approx(sum(recalls) / 3)


def test_even_classes_show_the_accuracy_first(run, tmp_path):
    page, _ = page_of(run, tmp_path=tmp_path)
    text = Text(page).text
    assert "Balanced accuracy" not in text
    assert text.index("Confusion matrix") < text.index("Figures of each class")


def test_what_was_kept_and_tested_is_shown(run, tmp_path):
    change_config(
        run,
        kept_epoch=3,
        patience=2,
        test_result={"accuracy": 0.9, "accuracy_low": 0.596, "accuracy_high": 0.982},
        images={"training": 40, "validation": 60, "test": 10},
    )
    text = Text(page_of(run, tmp_path=tmp_path)[0]).text
    assert "Test accuracy 90.0 % 95 % CI 59.6–98.2 %; 10 images, evaluated once" in text
    assert "epoch 3, the best by val_loss" in text
