import shlex
from dataclasses import replace

import keras
import numpy as np
import pytest
from kerasxfer_serving.benchmarking.measuring import Measurement, Repeat
from kerasxfer_serving.errors import KerasxferError, UsageError
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import kerasxfer
from kerasxfer.choosing.advice import advice
from kerasxfer.choosing.answers import Answers
from kerasxfer.choosing.candidates import Candidate
from kerasxfer.choosing.choice import choose
from kerasxfer.choosing.head import fit_head
from kerasxfer.choosing.results import Choice, Result
from kerasxfer.choosing.speed import Speed
from kerasxfer.data.tables.columns import NOTHING_SAID, TableOptions
from kerasxfer.probing.features import pooled_features


def test_the_backbone_that_knows_shapes_is_recommended(choice):
    assert [result.candidate.name for result in choice.results] == ["DemoVGG@32", "MobileNet@32"]
    assert choice.recommended is choice.results[0]
    assert choice.recommended.score.low > choice.results[1].score.high
    assert choice.p(choice.results[1]) < 0.01


def test_a_candidate_without_weights_is_named_and_left_out(choice):
    assert list(choice.left_out) == ["VGG16@32"]
    assert "not a file" in choice.left_out["VGG16@32"]
    assert "VGG16@32 could not be loaded, and was left out." in advice(choice)


def test_nothing_to_choose_from_is_an_error(shapes, candidates, tmp_path):
    with pytest.raises(KerasxferError, match="None of the candidates can be loaded"):
        choose(shapes, candidates[2:], cache=tmp_path, rates=False)


def test_the_command_line_trains_from_the_features_that_are_there(choice, cache, tmp_path, monkeypatch):
    from kerasxfer.commands import application

    rows = [(shelf["boundary"], shelf["rows"]) for shelf in cache.list()]
    monkeypatch.chdir(tmp_path)
    words = shlex.split(choice.command)
    assert words[:2] == ["kerasxfer", "train"]
    application()([*words[1:], "--epochs", "1"], standalone_mode=False)
    assert (tmp_path / "run" / "model.keras").is_file()
    assert [(shelf["boundary"], shelf["rows"]) for shelf in cache.list()] == rows


def test_the_fitted_head_answers_as_scikit_learns(shapes, cache):
    data = kerasxfer.ImageFolder(shapes, (32, 32), shuffle=False)
    model = Candidate("DemoVGG", (32, 32)).classifier(data.class_names)
    features = pooled_features(model, data, cache)
    fit_head(model, features, data.labels, strength=0.1)
    rows = StandardScaler().fit_transform(features.astype("float64"))
    expected = LogisticRegression(C=0.1).fit(rows, data.labels).predict_proba(rows)
    np.testing.assert_allclose(model.predict(data, verbose=0), expected, atol=1e-3)


def made_up(rights, rates=None, min_rate=None):
    """A choice among candidates by name: how many of 1,000 images each gets right, and its images a second."""
    results = []
    for name, right in rights.items():
        truth = np.arange(1000) < right
        answers = Answers(np.ones(1000, int), np.stack([~truth, truth], axis=1).astype(float))
        measured = {
            precision: Measurement("end_to_end", 8, (Repeat(int(rate), (1.0,)),) * 3, 0.0, True)
            for precision, rate in (rates or {}).get(name, {}).items()
        }
        candidate = Candidate(name, (96, 96))
        results.append(Result(candidate, answers, answers.score, 10**6, 0.1, Speed(measured)))
    return Choice(["a", "b"], 1000, results, {}, min_rate, [], None)


def test_of_those_that_are_tied_the_cheapest_is_taken():
    rates = {"VGG16": {"fp32": 20}, "MobileNet": {"fp32": 200}, "MobileNetV2": {"fp32": 300}}
    choice = made_up({"VGG16": 980, "MobileNet": 976, "MobileNetV2": 930}, rates)
    assert choice.recommended.candidate.backbone == "MobileNet"
    assert [choice.verdict(result) for result in choice.results] == ["best", "take", ""]
    assert "which may be chance" in advice(choice)[0]
    assert "takes 10.0 times as long" in advice(choice)[0]


def test_a_rate_that_is_asked_for_rules_out_what_is_slower():
    rates = {"VGG16": {"fp32": 20, "int8": 70}, "MobileNet": {"fp32": 200, "int8": 250}}
    rights = {"VGG16": 980, "MobileNet": 900}
    assert made_up(rights, rates).recommended.candidate.backbone == "VGG16"
    slow = made_up(rights, rates, min_rate=60)
    assert slow.recommended.candidate.backbone == "VGG16"
    assert "in int8 only" in advice(slow)[0]
    fast = made_up(rights, rates, min_rate=100)
    assert fast.recommended.candidate.backbone == "MobileNet"
    assert fast.verdict(fast.results[0]) == "too slow"
    none = made_up(rights, rates, min_rate=1000)
    assert none.recommended is None
    assert advice(none)[0].startswith("No candidate reaches 1000 images/s on this machine; the fastest is MobileNet@96")


def test_without_rates_weights_and_pixels_decide():
    choice = made_up({"VGG16": 980, "MobileNet": 979})
    small = replace(choice.results[1], parameters=1000)
    choice = replace(choice, results=[choice.results[0], small])
    assert choice.recommended is small
    assert "is the larger" in advice(choice)[0]
    assert "could be exported" in advice(replace(choice, min_rate=10.0))[0]


@pytest.mark.parametrize(
    ("candidates", "options", "message"),
    [
        ([], {}, "one at least"),
        ([Candidate("DemoVGG"), Candidate("DemoVGG")], {}, "different"),
        ([Candidate("DemoVGG")], {"min_rate": 5.0, "rates": False}, "needs `rates`"),
        ([Candidate("DemoVGG")], {"min_rate": 0.0}, "above 0"),
        ([Candidate("DemoVGG")], {"duration": float("nan")}, "`duration` must be seconds"),
    ],
    ids=["none", "twice", "unmeasured", "zero", "nan"],
)
def test_mistakes_are_named(candidates, options, message, shapes):
    with pytest.raises(UsageError, match=message):
        choose(shapes, candidates, **options)


def test_groups_stay_together(shapes, tmp_path):
    table = TableOptions(group_pattern=r"(\d)\.png$")
    choice = choose(shapes, [Candidate("DemoVGG", (32, 32))], table=table, cache=tmp_path, rates=False)
    groups = choice.results[0].answers.groups
    assert len(np.unique(groups)) == 10
    assert r"--group-pattern '(\d)\.png$'" in choice.command


def test_of_a_table_the_rows_for_training_are_taken(shapes, cache, tmp_path):
    paths = sorted(path.relative_to(shapes).as_posix() for path in shapes.glob("*/*.png"))
    parts = ["validation" if number % 4 == 0 else "train" for number in range(len(paths))]
    rows = [f"{path},{path.split('/')[0]},{part}" for path, part in zip(paths, parts, strict=True)]
    (tmp_path / "shapes.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    table = TableOptions(root=str(shapes))
    choice = choose(
        tmp_path / "shapes.csv", [Candidate("DemoVGG", (32, 32))], table=table, cache=cache.directory, rates=False
    )
    assert choice.images == parts.count("train")
    assert f"--images {shapes}" in choice.command
    assert "--validation-split" not in choice.command


def test_learning_rates_are_tried_on_the_last_block(shapes, cache):
    choice = choose(shapes, [Candidate("DemoVGG", (32, 32))], cache=cache.directory, rates=False, try_rates=True)
    assert [trial.learning_rate for trial in choice.trials] == [0, 1e-5, 1e-4, 1e-3]
    assert {trial.block for trial in choice.trials} == {"block5"}
    losses = [trial.loss for trial in choice.trials]
    assert len(set(losses)) == 4
    assert ("--unfreeze block5" in choice.command) == (min(losses) < losses[0])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="an export converts on TensorFlow in any case")
@pytest.mark.parametrize("multi_label", [False, True], ids=["one label", "several labels"])
def test_speed_is_measured_on_the_exported_model(shapes, several_labels, cache, multi_label):
    choice = choose(
        several_labels if multi_label else shapes,
        [Candidate("DemoVGG", (32, 32))],
        table=TableOptions(root=str(shapes)) if multi_label else NOTHING_SAID,
        multi_label=multi_label,
        cache=cache.directory,
        duration=0.3,
        min_rate=1,
    )
    (row,) = choice.rows()
    assert row["fp32_rate"] > 1
    assert row["int8_rate"] > 1
    assert row["int8_bytes"] < row["fp32_bytes"]
    assert 0.95 <= row["int8_agreement"] <= 1
    assert choice.notes == []


@pytest.fixture(scope="module")
def several_labels(shapes, tmp_path_factory):
    """A table of the shapes: each image is of its class, and of `early` where that comes early in the alphabet."""
    names = sorted(path.name for path in shapes.iterdir() if path.is_dir())
    early = names[: len(names) // 2]
    rows = [
        f"{path.relative_to(shapes).as_posix()},{path.parent.name}{'|early' if path.parent.name in early else ''}"
        for path in sorted(shapes.glob("*/*.png"))
    ]
    table = tmp_path_factory.mktemp("table") / "labels.csv"
    table.write_text("\n".join(["path,labels", *rows]) + "\n")
    return table


def test_several_labels_are_compared_by_mean_average_precision(several_labels, shapes, cache):
    choice = choose(
        several_labels,
        [Candidate("DemoVGG", (32, 32))],
        table=TableOptions(root=str(shapes)),
        multi_label=True,
        cache=cache.directory,
        rates=False,
    )
    assert choice.metric == "mAP"
    score = choice.recommended.score
    assert 0.5 < score.low < score.value < score.high <= 1
    assert "--multi-label" in choice.command


def test_a_head_for_several_labels_has_a_sigmoid_for_each(several_labels, shapes, cache):
    data = kerasxfer.ImageTable(several_labels, (32, 32), root=shapes, label_mode="multi_hot", shuffle=False)
    model = Candidate("DemoVGG", (32, 32)).classifier(data.class_names, multi_label=True)
    features = pooled_features(model, data, cache)
    fit_head(model, features, data.labels, strength=0.1)
    rows = StandardScaler().fit_transform(features.astype("float64"))
    expected = LogisticRegression(C=0.1).fit(rows, data.labels[:, 0]).predict_proba(rows)[:, 1]
    np.testing.assert_allclose(model.predict(data, verbose=0)[:, 0], expected, atol=1e-3)
