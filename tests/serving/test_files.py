"""Files are there in full or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kerasxfer_serving.errors import UsageError, WriteError
from kerasxfer_serving.files import format_bytes, parse_bytes, write_atomically, writing


def test_content_replaces_what_was_there_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old and longer")
    write_atomically(path, "néw\n")
    assert path.read_bytes() == "néw\n".encode()
    write_atomically(path, [b"a", memoryview(b"b"), b"c"])
    assert path.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["report.json"]  # noqa: PTH208


def test_text_keeps_the_bytes_of_names_that_are_not_utf_8(tmp_path: Path) -> None:
    write_atomically(tmp_path / "list.txt", os.fsdecode(b"caf\xe9\n"))
    assert (tmp_path / "list.txt").read_bytes() == b"caf\xe9\n"


def test_an_error_in_the_middle_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def content() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, content())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]  # noqa: PTH208


def test_a_file_of_the_temporary_kind_that_is_not_ours_stays(tmp_path: Path) -> None:
    theirs = [tmp_path / "report.json.tmp", tmp_path / "report.json.partial", tmp_path / ".report.json.tmp"]
    for path in theirs:
        path.write_text("theirs")
    write_atomically(tmp_path / "report.json", "ours")
    assert [path.read_text() for path in theirs] == ["theirs"] * 3


def test_the_permissions_are_those_of_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_content_is_on_disk_before_its_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "x", []
    real = os.fsync

    def spy(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_ino == tmp_path.stat().st_ino, path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    write_atomically(path, "x")
    assert seen == [(False, False), (True, True)]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    assert (tmp_path / "pipe").is_fifo()
    os.close(reader)


@pytest.mark.parametrize("name", ["missing/x", "file/x", "folder", "n" * 300])
def test_what_cannot_be_written_is_a_sentence_with_the_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    with pytest.raises(WriteError, match=r"cannot be written: .+\. .+\.$") as caught, writing(path):
        write_atomically(path, "x")
    assert str(path) in str(caught.value)


def test_a_full_disk_is_a_sentence() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with (
        pytest.raises(WriteError, match=r"`/dev/full` cannot be written: No space left on device\. Free"),
        writing(full),
    ):
        write_atomically(full, "x")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (5e13, "50.0 TB")]
)
def test_sizes_are_formatted(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(("text", "size"), [("20GB", 20 * 10**9), ("1.5 MB", 1_500_000), ("4KB", 4000), ("7", 7)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1 GiB", "inf", "nan", "1e3", "0x10"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="A size is a number"):
        parse_bytes(text)
