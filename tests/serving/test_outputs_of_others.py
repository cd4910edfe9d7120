"""Nothing that a journal of ours does not name is removed, and two runs never write to one place."""

import json
import subprocess
import sys
from pathlib import Path

import command_fuzz
import pytest
from kerasxfer_serving.commands import application
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.outputs.destination import Destination, journal_path
from writer_runs import PATHS, contents, inputs, open_writer, write, written


def predict(*arguments):
    return command_fuzz.run(application, "kerasxfer-serving", ["predict", *map(str, arguments)])


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}], ids=str)
def test_files_beside_the_result_stay(tmp_path, options):
    theirs = ["r.csv.parts/notes.txt", "r.csv.parts/part-notes.csv", "r.csv.tmp", "r.csv.parts/part-1.csv"]
    (tmp_path / "r.csv.parts").mkdir()
    for name in theirs:
        (tmp_path / name).write_text("theirs")
    writer = open_writer(tmp_path / "r.csv", **options)
    write(writer, PATHS)
    writer.finish({})
    assert written(tmp_path / "r.csv") == PATHS
    assert {name: (tmp_path / name).read_text() for name in theirs} == dict.fromkeys(theirs, "theirs")
    assert len(contents(tmp_path)) == len(theirs) + 2  # the result and its journal


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_files_among_the_parts_stay(tmp_path, option):
    out = tmp_path / "rows"
    write(open_writer(out), PATHS[:6])
    theirs = [out / "part-notes.txt", out / "part-00001.txt", out / "part-00000.csv.bak", out / "notes"]
    for path in theirs:
        path.write_text("theirs")
    writer = open_writer(out, **{option: True})
    rest = inputs()
    writer.skip(rest)
    write(writer, [item.path for item in rest])
    writer.finish({})
    assert written(out) == PATHS
    assert [path.read_text() for path in theirs] == ["theirs"] * 4


@pytest.mark.parametrize("name", ["part-00000.csv", "part-00007.csv", "part-00003.csv.tmp"])
@pytest.mark.parametrize("out", ["r.csv", "rows"])
def test_files_called_like_parts_are_in_the_way_of_a_new_run(tmp_path, name, out):
    destination = Destination(tmp_path / out, "csv")
    destination.folder.mkdir()
    (destination.folder / name).write_text("theirs")
    with pytest.raises(UsageError, match=f"{name}` is in the way"):
        open_writer(tmp_path / out, overwrite=True)
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["theirs"]


def test_a_part_of_others_that_comes_while_a_run_stands_still_is_in_the_way(tmp_path):
    out = tmp_path / "rows"
    write(open_writer(out), PATHS[:4])
    (out / "part-00001.csv").write_text("their,own\ncolumns,here\n")
    with pytest.raises(UsageError, match=r"part-00001.csv` is in the way"):
        open_writer(out, resume=True)
    assert (out / "part-00001.csv").read_text().startswith("their")


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_parts_that_a_killed_run_left_are_removed_whatever_the_next_run_is(tmp_path, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / "rows"
    writer = open_writer(out, format=format)
    write(writer, PATHS)
    part = writer._part.close()  # killed between the part's name and the line in the journal
    assert (out / part.name).exists()
    del writer
    write(open_writer(out, model="other", overwrite=True), PATHS[:4])
    assert [path.name for path in sorted(out.iterdir())] == ["_run.jsonl", "part-00000.csv"]


def test_a_file_where_the_journal_should_be_stays(tmp_path):
    (tmp_path / "r.csv.run.jsonl").write_text('{"somebody": "else"}\n')
    for options in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError, match=r"r.csv.run.jsonl` is needed for the run.s journal.* Move it away"):
            open_writer(tmp_path / "r.csv", **options)
    assert (tmp_path / "r.csv.run.jsonl").read_text() == '{"somebody": "else"}\n'


def test_the_old_rows_stay_until_the_new_ones_are_complete(tmp_path):
    out = tmp_path / "r.csv"
    out.write_text("precious")
    writer = open_writer(out, overwrite=True)
    write(writer, PATHS)
    writer.stop()
    assert out.read_text() == "precious"
    writer = open_writer(out, resume=True)
    writer.finish({})
    assert written(out) == PATHS


@pytest.mark.parametrize(
    ("out", "kind"), [("folder.csv", "is a folder, and the result is a file"), ("file", "is a file, and the result")]
)
def test_a_result_of_another_kind_is_refused(tmp_path, out, kind):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError, match=kind):
            open_writer(tmp_path / out, **options)


@pytest.fixture
def images(draw_colours, tmp_path):
    """A folder of images, a list of them, and a folder of images that are called like parts."""
    paths = list(draw_colours(tmp_path / "images", 3))
    (tmp_path / "list.csv").write_text("\n".join(["path", *paths]) + "\n")
    (tmp_path / "parts").mkdir()
    for index, path in enumerate(paths):
        (tmp_path / "parts" / f"part-0000{index}.png").write_bytes(Path(path).read_bytes())
    (tmp_path / "link.csv").symlink_to(tmp_path / "list.csv")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "out"),
    [("list.csv", "list.csv"), ("link.csv", "list.csv"), ("parts", "parts"), ("list.csv", "images/../list.csv")],
)
def test_the_result_is_not_among_the_inputs(model, images, given, out):
    before = contents(images)
    for option in ("--overwrite", "--resume"):
        done = predict(model, images / given, "-o", images / out, option)
        assert done.status == 2, done
        assert "OUT must not be among the inputs" in done.stderr
    assert contents(images) == before


def test_a_result_among_all_files_is_refused(model, images):
    assert predict(model, images / "images", "-o", images / "images" / "r.csv").status == 0
    done = predict(model, images / "images", "-o", images / "images" / "s.csv", "--all-files")
    assert "OUT must not be among the inputs" in done.stderr


def test_images_called_like_parts_survive_a_run_into_their_folder(model, images):
    before = contents(images / "parts")
    done = predict(model, images / "list.csv", "-o", images / "parts", "--overwrite", "--format", "csv")
    assert done.status == 0, done
    assert contents(images / "parts").items() > before.items()


def test_resuming_and_overwriting_contradict_each_other(model, images):
    out = images / "r.csv"
    assert predict(model, images / "images", "-o", out).status == 0
    before = contents(images)
    done = predict(model, images / "images", "-o", out, "--resume", "--overwrite")
    assert done.status == 2
    assert "`--resume` continues a run and `--overwrite` starts it over" in done.stderr
    assert contents(images) == before


@pytest.mark.parametrize("option", ["overwrite", "resume"])
@pytest.mark.parametrize("name", ["r.csv", "rows"])
def test_a_second_run_touches_nothing_of_the_first(tmp_path, name, option):
    out = tmp_path / name
    first = open_writer(out)
    write(first, PATHS[:6])
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="Another run is writing here"):
        open_writer(out, model="other", **{option: True})
    assert contents(tmp_path) == before
    write(first, PATHS[6:])
    first.finish({})
    assert written(out) == PATHS


SECOND = """
import sys; sys.path.insert(0, {folder!r})
import writer_runs, pathlib
try:
    writer_runs.open_writer(pathlib.Path({out!r}), model="other", overwrite=True)
except ValueError as error:
    print(error)
"""


def test_a_second_process_is_told_so(tmp_path):
    out = tmp_path / "r.csv"
    writer = open_writer(out)
    write(writer, PATHS[:6])
    script = SECOND.format(folder=str(Path(__file__).parents[1]), out=str(out))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith("Another run is writing here"), done.stderr
    writer.stop()


def test_a_journal_that_is_removed_while_another_waits_for_it_is_made_anew(tmp_path):
    out = tmp_path / "r.csv"
    writer = open_writer(out)
    journal_path(out).unlink()
    (tmp_path / "r.csv.parts").rmdir()
    other = open_writer(out)
    write(other, PATHS)
    other.finish({})
    assert written(out) == PATHS
    assert json.loads(journal_path(out).read_text().splitlines()[-1])["summary"]
    del writer
