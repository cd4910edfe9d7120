"""What was committed and has been damaged since is noticed: predicted again, or named."""

import json
import shutil
import zlib

import pytest
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.outputs.destination import journal_path
from writer_runs import PATHS, contents, inputs, open_writer, resume, write, written


def begun(out, **options):
    """A run that was killed with two parts of four rows committed, and two rows in a third."""
    writer = open_writer(out, **options)
    write(writer, PATHS)
    del writer


def parts_of(out):
    return out.with_name(f"{out.name}.parts") if out.suffix else out


def copies(tmp_path, whole, numbers):
    """A copy of a folder that holds a run for each number, one after the other."""
    for number in numbers:
        copy = tmp_path / f"copy {number}"
        shutil.copytree(whole, copy)
        yield number, copy
        shutil.rmtree(copy)


@pytest.mark.parametrize("part", ["part-00000.csv", "part-00001.csv"])
@pytest.mark.parametrize("name", ["r.csv", "rows"])
def test_a_part_cut_anywhere_is_predicted_again(tmp_path, name, part):
    begun(tmp_path / "whole" / name)
    size = len((parts_of(tmp_path / "whole" / name) / part).read_bytes())
    for cut, folder in copies(tmp_path, tmp_path / "whole", range(0, size, 7)):
        path = parts_of(folder / name) / part
        path.write_bytes(path.read_bytes()[:cut])
        assert resume(folder / name).damaged == part
        assert written(folder / name) == PATHS


def test_a_part_with_any_byte_changed_is_predicted_again(tmp_path):
    begun(tmp_path / "whole" / "rows")
    size = len((tmp_path / "whole" / "rows" / "part-00000.csv").read_bytes())
    for place, folder in copies(tmp_path, tmp_path / "whole", range(0, size, 7)):
        path = folder / "rows" / "part-00000.csv"
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)
        assert resume(folder / "rows").damaged == "part-00000.csv"
        assert written(folder / "rows") == PATHS


@pytest.mark.parametrize("out", ["r.parquet", "rows"])
def test_a_damaged_parquet_part_is_predicted_again(tmp_path, out):
    parquet = pytest.importorskip("pyarrow.parquet")
    begun(tmp_path / "whole" / out, format="parquet")
    size = len((parts_of(tmp_path / "whole" / out) / "part-00001.parquet").read_bytes())
    for number, folder in copies(tmp_path, tmp_path / "whole", range(40)):
        path = parts_of(folder / out) / "part-00001.parquet"
        data = bytearray(path.read_bytes())
        data[number * size // 40] ^= 255
        path.write_bytes(data[: number * size // 40] if number % 2 else data)
        assert resume(folder / out, format="parquet").damaged == "part-00001.parquet"
        assert parquet.read_table(folder / out).column("path").to_pylist() == PATHS


@pytest.mark.parametrize("name", ["r.csv", "rows"])
def test_a_missing_part_is_predicted_again(tmp_path, name):
    begun(tmp_path / name)
    (parts_of(tmp_path / name) / "part-00000.csv").unlink()
    assert resume(tmp_path / name).damaged == "part-00000.csv"
    assert written(tmp_path / name) == PATHS


def test_a_missing_part_of_a_complete_run_is_predicted_again(tmp_path):
    resume(tmp_path / "rows")
    (tmp_path / "rows" / "part-00001.csv").unlink()
    assert written(tmp_path / "rows") != PATHS
    assert resume(tmp_path / "rows").damaged == "part-00001.csv"
    assert written(tmp_path / "rows") == PATHS


@pytest.mark.parametrize("damage", ["missing", "changed", "cut"])
def test_a_changed_result_of_a_complete_run_is_named(tmp_path, damage):
    out = tmp_path / "r.csv"
    resume(out)
    resume(out)
    if damage == "missing":
        out.unlink()
    else:
        data = out.read_bytes()
        out.write_bytes(data[:-3] if damage == "cut" else data.replace(b"0.5", b"0.7", 1))
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"`.*r\.csv` is complete, and the file is missing or has been changed since"):
        resume(out)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["r.csv", "rows"])
def test_a_journal_with_any_byte_changed_loses_and_doubles_no_row(tmp_path, name):
    begun(tmp_path / "whole" / name)
    lines = journal_path(tmp_path / "whole" / name).read_bytes().splitlines(keepends=True)
    size, header = sum(map(len, lines)), len(lines[0])
    for place, folder in copies(tmp_path, tmp_path / "whole", range(0, size, 7)):
        journal = journal_path(folder / name)
        data = bytearray(journal.read_bytes())
        data[place] ^= 1 << place % 8
        journal.write_bytes(data)
        before = contents(folder)
        if place < header:  # it does not say any more what was asked for
            with pytest.raises(UsageError, match=r"--overwrite|Move it away"):
                resume(folder / name)
            assert contents(folder) == before
        else:
            resume(folder / name)
            assert written(folder / name) == PATHS


@pytest.mark.parametrize("name", ["r.csv", "rows"])
def test_a_journal_cut_anywhere_loses_and_doubles_no_row(tmp_path, name):
    begun(tmp_path / "whole" / name)
    size = len(journal_path(tmp_path / "whole" / name).read_bytes())
    for cut, folder in copies(tmp_path, tmp_path / "whole", range(0, size + 1, 7)):
        journal = journal_path(folder / name)
        journal.write_bytes(journal.read_bytes()[:cut])
        resume(folder / name)
        assert written(folder / name) == PATHS
        assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize(
    "name", ["../../secret.csv", "/etc/passwd", "part-00000.csv/../../x", "part-0.csv", "", None, 7]
)
def test_a_journal_that_names_anything_but_a_part_does_not_lead_there(tmp_path, name):
    out = tmp_path / "a" / "b" / "rows"
    begun(out)
    (tmp_path / "a" / "secret.csv").write_text("path\nsecret\n")
    lines = journal_path(out).read_bytes().splitlines()
    entry = json.loads(lines[1])
    del entry["crc32"]
    entry["part"]["name"] = name
    body = json.dumps(entry).encode()
    lines[1] = body[:-1] + f', "crc32": "{zlib.crc32(body):08x}"}}'.encode()
    journal_path(out).write_bytes(b"\n".join(lines) + b"\n")
    resume(out)
    assert written(out) == PATHS
    assert (tmp_path / "a" / "secret.csv").read_text() == "path\nsecret\n"


def test_parts_are_on_disk_before_the_journal_names_them(tmp_path, monkeypatch):
    out, synced = tmp_path / "rows", []
    writer = open_writer(out)
    monkeypatch.setattr(
        "kerasxfer_serving.outputs.destination.sync", lambda file: (file.flush(), synced.append("part"))
    )
    monkeypatch.setattr("kerasxfer_serving.outputs.destination.sync_folder", lambda folder: synced.append("folder"))
    monkeypatch.setattr("kerasxfer_serving.outputs.journal.sync", lambda file: (file.flush(), synced.append("journal")))
    write(writer, PATHS[:4])
    assert synced == ["part", "folder", "journal"]


OLD_RUN = '{"run": {"model": "abc"}, "versions": {}}\n'
OLD_PART = '{"part": {"name": "part-00000.csv", "rows": 4, "paths_sha256": "0", "status": {"ok": 4}}}\n'


def test_a_run_of_the_first_version_is_named_and_can_be_overwritten(tmp_path):
    out = tmp_path / "rows"
    out.mkdir()
    journal_path(out).write_text(OLD_RUN + OLD_PART)
    (out / "part-00000.csv").write_text("path\nold\n")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"of another version of kerasxfer-serving\. Finish the run with that version"):
        open_writer(out, resume=True)
    with pytest.raises(UsageError, match="already holds a run"):
        open_writer(out)
    assert contents(tmp_path) == before
    writer = open_writer(out, overwrite=True)
    write(writer, PATHS)
    writer.finish({})
    assert written(out) == PATHS


def test_inputs_of_the_parts_that_are_whole_are_passed_over(tmp_path):
    begun(tmp_path / "rows")
    (tmp_path / "rows" / "part-00001.csv").write_text("damaged")
    rest = inputs()
    assert open_writer(tmp_path / "rows", resume=True).skip(rest) == {"ok": 4}
    assert [item.path for item in rest] == PATHS[4:]
