import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError, WriteError
from kerasxfer_serving.inputs.input import given_input
from kerasxfer_serving.outputs.destination import Destination, journal_path
from kerasxfer_serving.outputs.predictions import Predictions, columns
from kerasxfer_serving.outputs.writer import PartWriter

NAMES = ("cat", "dog")
RUN = {"model": "abc", "batch_size": 2}
PATHS = [f"{index}.jpg" for index in range(10)]


def batch(paths):
    bad = ["bad" in path for path in paths]
    return Predictions(
        class_names=NAMES,
        paths=list(paths),
        status=["corrupt" if wrong else "ok" for wrong in bad],
        messages=[""] * len(paths),
        probabilities=np.array([[np.nan] * 2 if wrong else [0.75, 0.25] for wrong in bad], np.float32),
        sizes=[None if wrong else (4, 3) for wrong in bad],
    )


def open_writer(out, *, run=RUN, **options):
    destination = Destination(out, out.suffix[1:] or "csv")
    table = columns(NAMES)
    run = run | {"format": destination.format, "columns": table}
    return PartWriter(destination, table, run=run, versions={}, **({"part_rows": 4} | options))


def inputs(paths=PATHS):
    return iter([given_input(path, path) for path in paths])


def write(writer, paths):
    for start in range(0, len(paths), 2):
        writer.write(batch(paths[start : start + 2]))


def written(out):
    files = [out] if out.is_file() else sorted(out.glob("part-*"))
    return [line.split(",")[0] for file in files for line in file.read_text().splitlines()[1:]]


@pytest.mark.parametrize("name", ["out.csv", "folder"])
def test_rows_in_order_and_nothing_left_over(tmp_path, name):
    out = tmp_path / "new" / name
    writer = open_writer(out)
    write(writer, PATHS)
    writer.finish({"inputs": 10})
    assert written(out) == PATHS
    left = {path.name for path in out.parent.iterdir()}
    assert left == ({"out.csv", "out.csv.run.jsonl"} if name == "out.csv" else {"folder"})
    assert not list(tmp_path.rglob("*.tmp"))
    entries = [json.loads(line) for line in journal_path(out).read_text().splitlines()]
    assert entries[0]["run"].items() >= RUN.items()
    assert [entry["part"]["rows"] for entry in entries[1:-1]] == [4, 4, 2]
    assert entries[-1]["summary"]["inputs"] == 10


@pytest.mark.parametrize("name", ["out.csv", "folder"])
def test_a_run_that_died_goes_on_after_its_last_part(tmp_path, name):
    out = tmp_path / name
    write(open_writer(out), PATHS[:6])  # never finished: one part of four rows is committed, two rows are not
    writer = open_writer(out, resume=True)
    rest = inputs()
    assert writer.skip(rest) == {"ok": 4}
    remaining = [item.path for item in rest]
    assert remaining == PATHS[4:]
    write(writer, remaining)
    writer.finish({})
    assert written(out) == PATHS


def test_a_torn_last_line_of_the_journal_does_not_count(tmp_path):
    out = tmp_path / "out.csv"
    write(open_writer(out), PATHS[:8])
    journal = journal_path(out)
    whole = journal.read_bytes()
    for cut in (1, 20, 60):
        journal.write_bytes(whole[:-cut])
        writer = open_writer(out, resume=True)
        rest = inputs()
        assert writer.skip(rest).total() == 4
        write(writer, [item.path for item in rest][:4])
        writer._journal.close()
        assert [*map(json.loads, journal.read_bytes().splitlines())] == [*map(json.loads, whole.splitlines())]
    writer = open_writer(out, resume=True)
    writer.skip(rest := inputs())
    write(writer, [item.path for item in rest])
    writer.finish({})
    assert written(out) == PATHS


def test_a_part_without_its_line_is_made_again(tmp_path):
    out = tmp_path / "folder"
    write(open_writer(out), PATHS[:8])
    journal = journal_path(out)
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    writer = open_writer(out, resume=True)
    assert [path.name for path in sorted(out.glob("part-*"))] == ["part-00000.csv"]
    assert writer.skip(inputs()).total() == 4


def test_counts_of_an_earlier_run_are_kept(tmp_path):
    paths = ["0.jpg", "bad.jpg", *PATHS[2:]]
    write(open_writer(tmp_path / "out.csv"), paths[:4])
    assert open_writer(tmp_path / "out.csv", resume=True).skip(inputs(paths)) == {"ok": 3, "corrupt": 1}


def test_a_changed_option_is_noticed(tmp_path):
    write(open_writer(tmp_path / "out.csv"), PATHS[:4])
    with pytest.raises(UsageError, match=r"`model` has changed: it was 'abc'. Received: 'def'"):
        open_writer(tmp_path / "out.csv", run=RUN | {"model": "def"}, resume=True)


@pytest.mark.parametrize("paths", [PATHS[1:], PATHS[:3], ["new.jpg", *PATHS], [*PATHS[:2], "x.jpg", *PATHS[3:]]])
def test_a_changed_input_list_is_noticed(tmp_path, paths):
    write(open_writer(tmp_path / "out.csv"), PATHS[:8])
    with pytest.raises(UsageError, match="the list has changed"):
        open_writer(tmp_path / "out.csv", resume=True).skip(inputs(paths))


def test_a_complete_run_is_complete(tmp_path):
    out = tmp_path / "out.csv"
    writer = open_writer(out)
    write(writer, PATHS)
    writer.finish({})
    before = out.read_bytes(), journal_path(out).read_bytes()
    again = open_writer(out, resume=True)
    assert again.skip(inputs()).total() == 10
    again.finish({})
    assert (out.read_bytes(), journal_path(out).read_bytes()) == before
    assert not (tmp_path / "out.csv.parts").exists()
    with pytest.raises(UsageError, match="more than 10 now"):
        open_writer(out, resume=True).skip(inputs([*PATHS, "new.jpg"]))


@pytest.mark.parametrize("name", ["out.csv", "folder"])
def test_nothing_is_overwritten_unasked(tmp_path, name):
    out = tmp_path / name
    writer = open_writer(out)
    write(writer, PATHS)
    writer.finish({})
    with pytest.raises(UsageError, match="--resume"):
        open_writer(out)
    writer = open_writer(out, overwrite=True)
    write(writer, PATHS[:2])
    writer.finish({})
    assert written(out) == PATHS[:2]


def test_what_somebody_else_made_is_in_the_way(tmp_path):
    (tmp_path / "out.csv").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").touch()
    for name in ("out.csv", "folder"):
        for resume in (False, True):
            with pytest.raises(UsageError, match="no journal"):
                open_writer(tmp_path / name, resume=resume)
    assert (tmp_path / "out.csv").read_text() == "precious"


def test_two_runs_do_not_write_to_one_place(tmp_path):
    first = open_writer(tmp_path / "out.csv")
    write(first, PATHS[:4])
    with pytest.raises(UsageError, match="locked"):
        open_writer(tmp_path / "out.csv", resume=True)


def test_stopping_commits_what_is_there(tmp_path):
    out = tmp_path / "out.csv"
    writer = open_writer(out)
    write(writer, PATHS[:6])
    writer.stop()
    assert open_writer(out, resume=True).skip(inputs()).total() == 6


def test_stopping_before_the_first_row_leaves_nothing_behind(tmp_path):
    for name in ("out.csv", "folder"):
        open_writer(tmp_path / name).stop()
    assert not list(tmp_path.iterdir())


def test_parts_close_by_the_clock_too(tmp_path, monkeypatch):
    monkeypatch.setattr("kerasxfer_serving.outputs.writer._PART_SECONDS", 0.0)
    writer = open_writer(tmp_path / "folder", part_rows=1000)
    write(writer, PATHS)
    assert len(list((tmp_path / "folder").glob("part-*.csv"))) == 5


FILL = """
import sys; sys.path.insert(0, {folder!r})
import test_writer as t, pathlib
writer = t.open_writer(pathlib.Path({out!r}), resume=True, part_rows=100)
done = writer.skip(t.inputs(t.PATHS * 30)).total()
t.write(writer, (t.PATHS * 30)[done:])
writer.finish({{}})
"""


def test_a_full_disk_loses_nothing_that_is_committed(tmp_path):
    """With a limit on the size of a file, as near to a full disk as a test gets without one of its own."""
    out = tmp_path / "out.csv"
    script = FILL.format(folder=str(Path(__file__).parent), out=str(out))

    def limited():  # the parts of a hundred rows fit, the joined file of three hundred does not
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    # What is imported for the first time must not be compiled to files that are cut at the limit.
    command = [sys.executable, "-B", "-c", script]
    failed = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True)
    assert "300 rows in 3 parts are safe: fix the cause, then continue with `--resume`" in failed.stderr
    assert "File too large" in failed.stderr
    assert not out.exists()
    subprocess.run([sys.executable, "-c", script], check=True)
    assert written(out) == PATHS * 30


def test_ctrl_c_within_a_batch_leaves_no_half_of_it(tmp_path, monkeypatch):
    out = tmp_path / "out.csv"
    writer = open_writer(out)
    write(writer, PATHS[:4])

    def interrupted(self, rows):
        self._write_line(next(iter(rows)).values())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kerasxfer_serving.outputs.tables.CsvTable.write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(writer, PATHS[4:6])
    writer.stop()
    writer = open_writer(out, resume=True)
    rest = inputs()
    assert writer.skip(rest).total() == 4
    write(writer, [item.path for item in rest])
    writer.finish({})
    assert written(out) == PATHS


def test_a_write_that_fails_in_a_part_keeps_the_parts_before(tmp_path):
    out = tmp_path / "folder"
    writer = open_writer(out)
    write(writer, PATHS[:6])

    class Full:
        def write(self, rows):
            raise OSError(28, "No space left on device")

    writer._part._table = Full()
    with pytest.raises(WriteError, match=r"No space left on device. 4 rows in 1 parts are safe"):
        writer.write(batch(PATHS[6:8]))
    writer.stop()
    assert written(out) == PATHS[:4]
