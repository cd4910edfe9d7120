import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from kerasxfer_serving.commands import main
from kerasxfer_serving.commands._model import ModelOptions
from kerasxfer_serving.images import ImagePolicy

ON_ERROR = 1
USAGE = 2


class Done(NamedTuple):
    returncode: int
    stdout: bytes
    stderr: bytes


def run(*arguments, stdin=b""):
    """The command in this process: starting Python for each would be most of these tests' time."""
    streams = [io.TextIOWrapper(io.BytesIO(data), "utf-8") for data in (stdin, b"", b"")]
    before, handler = (sys.argv, sys.stdin, sys.stdout, sys.stderr), signal.getsignal(signal.SIGTERM)
    sys.argv = ["kerasxfer-serving", "predict", *map(str, arguments)]
    sys.stdin, sys.stdout, sys.stderr = streams
    try:
        main()
        code = 0
    except SystemExit as exit_:
        code = exit_.code or 0
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr = before
        signal.signal(signal.SIGTERM, handler)
    for stream in streams[1:]:
        stream.flush()
    return Done(code, streams[1].buffer.getvalue(), streams[2].buffer.getvalue())


def rows(data):
    text = data.decode("utf-8", "surrogateescape")
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture(scope="module")
def images(tmp_path_factory, draw_colours):
    return draw_colours(tmp_path_factory.mktemp("images") / "p", 20)


@pytest.fixture
def folder(images):
    return Path(next(iter(images))).parent


def test_rows_on_standard_output(model, folder, images):
    done = run(model, folder)
    assert done.returncode == 0, done.stderr
    assert [(row["path"], row["label"]) for row in rows(done.stdout)] == list(images.items())
    assert list(rows(done.stdout)[0]) == ["path", "status", "message", "label", "probability", "width", "height"]
    assert b"Device cpu" in done.stderr
    assert b"20 inputs" in done.stderr


def test_json_lines_with_everything(model, folder):
    done = run(model, folder, "--format", "jsonl", "--top-k", 2, "--all-probabilities", "--features")
    first = json.loads(done.stdout.splitlines()[0])
    assert len(first["probabilities"]) == len(first["features"]) == 3
    assert first["probability"] >= first["probability_2"]


def test_every_bad_and_odd_file_has_exactly_one_row(model, zoo, tmp_path):
    list_of_zoo = b"".join(os.fsencode(case.path) + b"\0" for case in zoo)
    out = tmp_path / "out.csv"
    done = run(model, "-", "-o", out, stdin=list_of_zoo)
    assert done.returncode == ON_ERROR
    found = rows(out.read_bytes())
    assert [row["path"] for row in found] == [str(case.path) for case in zoo]
    assert [row["status"] for row in found] == [case.code or "ok" for case in zoo]
    for row, case in zip(found, zoo, strict=True):
        assert bool(row["label"]) == (case.code is None)
        assert (row["width"], row["height"]) == (tuple(map(str, case.size)) if case.size else ("", ""))
        assert bool(row["message"]) >= (case.code is not None)
    assert b"truncated" in done.stderr


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_the_zoo_in_other_formats_says_the_same(model, zoo, tmp_path, format):
    if format == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / f"out.{format}"
    run(model, "-", "-o", out, stdin=b"".join(os.fsencode(case.path) + b"\0" for case in zoo))
    if format == "jsonl":
        found = [json.loads(line) for line in out.read_bytes().splitlines()]
    else:
        found = parquet.read_table(out).to_pylist()
    assert [row["status"] for row in found] == [case.code or "ok" for case in zoo]
    names = [str(case.path).encode("utf-8", "surrogateescape").decode("utf-8", "replace") for case in zoo]
    told = [row["path"].encode("utf-8", "surrogateescape").decode("utf-8", "replace") for row in found]
    assert sum(one == other for one, other in zip(names, told, strict=True)) >= len(names) - 1  # the one not UTF-8


def test_walking_the_zoo_misses_no_file_and_names_the_hidden_one(model, zoo):
    folder = zoo[0].path.parent
    files = {str(case.path) for case in zoo if case.code != "not_found"}
    done = run(model, folder)
    assert sorted(row["path"] for row in rows(done.stdout)) == sorted(files - {str(folder / ".hidden.jpg")})
    assert b"hidden files" in done.stderr
    done = run(model, folder, "--all-files")
    assert sorted(row["path"] for row in rows(done.stdout)) == sorted(files)


def test_exit_codes(model, folder):
    bad = folder / "no such file.jpg"
    assert run(model, folder, bad).returncode == ON_ERROR
    assert run(model, folder, bad, "--ignore-errors").returncode == 0
    assert run(model, "nothing*.jpg").returncode == USAGE
    assert run(model, folder, "--batch-size", "many").returncode == USAGE
    assert run(model, folder, "--layout", "nchw").returncode == USAGE
    assert run(model, folder, "--resume").returncode == USAGE
    assert run(model, folder, "-o", "out.xlsx").returncode == USAGE
    assert run(folder / "no.onnx", folder).returncode == ON_ERROR


def test_a_device_that_is_not_there_is_no_silent_fall_back(model, folder):
    from kerasxfer_serving.runtime.resources import cuda_devices

    if cuda_devices():
        pytest.skip("there is a GPU")
    done = run(model, folder, "--device", "cuda")
    assert done.returncode == ON_ERROR
    assert done.stdout == b""
    assert b"`device='cuda'` is not available" in done.stderr


def test_stopping_at_errors(model, folder, tmp_path):
    bad = [folder / f"bad{index}.jpg" for index in range(3)]
    out = tmp_path / "out.csv"
    done = run(model, *bad[:1], folder, "--fail-fast", "--batch-size", 4, "-o", out)
    assert done.returncode == ON_ERROR
    assert b"1 inputs have failed, more than 0" in done.stderr
    assert not out.exists()
    assert run(model, *bad, folder, "--max-errors", 3, "-o", tmp_path / "other.csv").returncode == ON_ERROR
    assert len(rows((tmp_path / "other.csv").read_bytes())) == 23
    again = run(model, *bad[:1], folder, "--batch-size", 4, "-o", out, "--resume")
    assert again.returncode == ON_ERROR
    assert len(rows(out.read_bytes())) == 21


def test_an_error_before_the_first_row_leaves_nothing_behind(model, tmp_path):
    run(model, "nothing*.jpg", "-o", tmp_path / "out.csv")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_parts(model, folder, tmp_path):
    done = run(model, folder, "-o", tmp_path / "parts", "--format", "csv", "--part-rows", 8, "--batch-size", 4)
    assert done.returncode == 0, done.stderr
    parts = sorted((tmp_path / "parts").glob("part-*.csv"))
    assert [len(rows(part.read_bytes())) for part in parts] == [8, 8, 4]
    assert run(model, folder, "-o", tmp_path / "parts").returncode == USAGE


def test_resuming_with_another_option_or_input_is_refused(model, folder, tmp_path, images):
    out = tmp_path / "parts"
    assert run(model, folder, "-o", out, "--format", "csv").returncode == 0
    assert run(model, folder, "-o", out, "--format", "csv", "--resume").returncode == 0
    changed = run(model, folder, "-o", out, "--format", "csv", "--resume", "--draft")
    assert changed.returncode == USAGE
    assert b"`manifest` has changed" in changed.stderr
    changed = run(model, *list(images)[1:], "-o", out, "--format", "csv", "--resume")
    assert changed.returncode == USAGE
    assert b"the list has changed" in changed.stderr


def test_a_model_from_elsewhere_by_flags(write_model, folder, images, tmp_path):
    path = write_model(tmp_path / "foreign.onnx", manifest=False, dtype="float", layout="nchw", scale=1.0)
    assert b"--preprocess" in run(path, folder).stderr
    (tmp_path / "labels.txt").write_text("rot\ngrün\nblau\n")
    done = run(path, folder, "--preprocess", "rescale", "--labels", tmp_path / "labels.txt")
    german = {"red": "rot", "green": "grün", "blue": "blau"}
    assert [row["label"] for row in rows(done.stdout)] == [german[colour] for colour in images.values()]


def test_a_reader_that_goes_away_is_no_error_of_ours(model, folder):
    command = f'"{sys.executable}" -m kerasxfer_serving predict "{model}" "{folder}" | head -1'
    done = subprocess.run(command, shell=True, capture_output=True)
    assert done.stdout.startswith(b"path,")
    assert b"Traceback" not in done.stderr


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv[1:] = ['predict', '--help']\n"
    code += "try:\n    from kerasxfer_serving.commands import main; main()\nfinally:\n"
    code += (
        "    print(sorted({'onnxruntime', 'onnx', 'keras', 'PIL', 'numpy', 'ray'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "--resume" in done.stdout
    assert done.stderr.strip() == "[]"


def test_no_framework_is_imported(model, folder):
    code = (
        "import sys; from kerasxfer_serving import Predictor; "
        f"Predictor({str(model)!r}).predict({str(folder / '00000.png')!r}); "
        "print(sorted({'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_pixels_of_a_model_from_elsewhere_are_said_by_options(tmp_path, write_model, folder):
    path = write_model(tmp_path / "foreign.onnx", manifest=False, dtype="float", layout="nchw", scale=1.0)
    by_name = run(path, folder, "--preprocess", "timm", "--all-probabilities")
    assert by_name.returncode == 0, by_name.stderr
    assert b"crop_fraction 0.875" in by_name.stderr
    assert b"which holds softmax" in by_name.stderr
    figures = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--scale", "1/255"]
    spelt_out = run(
        path, folder, *figures, "--crop-fraction", "0.875", "--interpolation", "bicubic", "--all-probabilities"
    )
    assert spelt_out.stdout == by_name.stdout
    other = run(path, folder, *figures, "--all-probabilities")
    assert other.stdout != by_name.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--mean", "1,2"], ["--mean", "a"], ["--scale", "1/0"], ["--std", ""], ["--crop-fraction", "0.9"],
        ["--preprocess", "tf", "--crop-fraction", "2"], ["--interpolation", "bicubic"], ["--output", "x"],
        ["--preprocess", "tf", "--resize", "pad", "--crop-fraction", "0.9"],
    ],
)  # fmt: skip
def test_options_of_models_from_elsewhere_that_make_no_sense(tmp_path, write_model, folder, options):
    path = write_model(tmp_path / "foreign.onnx", manifest=False, dtype="float")
    done = run(path, folder, *options)
    assert done.returncode == USAGE
    assert b"Error" in done.stderr


def test_more_pixels_than_allowed_are_a_row(model, folder):
    done = run(model, folder, "--max-pixels", 100, "--ignore-errors")
    assert done.returncode == 0
    assert {row["status"] for row in rows(done.stdout)} >= {"decompression_bomb"}


def test_options_leave_the_rest_of_the_policy_as_the_model_was_trained(write_model, tmp_path):
    path = write_model(tmp_path / "drafted.onnx", policy=ImagePolicy("box", draft=True, max_pixels=10_000))
    assert ModelOptions(max_pixels=100).manifest(path).policy == ImagePolicy("box", draft=True, max_pixels=100)
    assert ModelOptions(draft=True).manifest(path).policy == ImagePolicy("box", draft=True, max_pixels=10_000)
    assert ModelOptions().manifest(path) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cpu"], "needs the model on a GPU"),
        (["--draft"], "`draft` is for Pillow"),
        (["--engine", "ray"], "`--decode gpu` is for one machine"),
    ],
)
def test_the_gpu_decoder_is_refused_where_it_cannot_work(model, images, options, message):
    done = run(model, *images, "--decode", "gpu", *options)
    assert done.returncode in (1, USAGE)
    assert message in " ".join(done.stderr.decode().split())


def test_processes_give_the_rows_of_threads(model, images):
    in_threads = run(model, *images, "--batch-size", "4", "--decode-processes", "0")
    in_processes = run(model, *images, "--batch-size", "4", "--decode-processes", "2")
    assert in_processes.stdout == in_threads.stdout
    assert in_processes.returncode == 0
    assert len(rows(in_processes.stdout)) == len(images)
