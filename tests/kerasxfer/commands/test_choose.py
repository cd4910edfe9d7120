import json

import pytest
import typer
from kerasxfer_serving.errors import UsageError
from typer.testing import CliRunner

from kerasxfer.commands.choose import choose
from kerasxfer.demo import draw_folder


def invoke(*arguments):
    app = typer.Typer()
    app.command()(choose)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    draw_folder(root, per_class=8, size=32, seed=1)
    return root


def test_the_table_the_advice_and_the_command_are_printed(shapes, tmp_path):
    out = tmp_path / "choose"
    result = invoke(shapes, "--candidates", "DemoVGG", "--image-sizes", "32,48", "--no-rates", "-o", out)
    assert "DemoVGG@32" in result.stdout
    assert "DemoVGG@48" in result.stdout
    assert "Take DemoVGG@" in result.stdout
    assert f"kerasxfer train {shapes}" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        *("cache", "choose.csv", "choose.html", "choose.json", "pareto.svg")
    ]


def test_json_goes_to_standard_output_alone(shapes, tmp_path):
    options = ("--candidates", "DemoVGG", "--image-sizes", "32", "--no-rates", "--format", "json")
    result = invoke(shapes, *options, "--cache", tmp_path / "cache", "-o", tmp_path / "out")
    assert json.loads(result.stdout)["recommended"] == "DemoVGG@32"
    assert json.loads((tmp_path / "out" / "choose.json").read_text("utf-8")) == json.loads(result.stdout)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--candidates", "ResNet18"), "must be the name of a `keras.applications` model"),
        (("--image-sizes", "150,big"), "`--image-sizes`"),
        (("--weights", "file.h5"), "`--weights` takes a candidate.s name"),
        (("--candidates", "VGG16", "--weights", "MobileNet=file.h5"), "the candidates are VGG16"),
        (("--backbone-args", "MobileNet=alpha"), "`--backbone-args` takes NAME=VALUE"),
    ],
    ids=["unknown", "size", "no name", "stranger", "no value"],
)
def test_wrong_options_are_named(options, message, shapes, tmp_path):
    with pytest.raises(UsageError, match=message):
        invoke(shapes, *options, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
