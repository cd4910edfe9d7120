import pickle
import zipfile

import pytest
from kerasxfer_serving.cluster import chunks
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.inputs.input import failed_input, given_input, size_of
from kerasxfer_serving.inputs.reader import Reader, local_input


def inputs(count, size=10):
    return [given_input(str(index), b"x" * size) for index in range(count)]


def files(chunk):
    return [len(piece.items) for piece in chunk.pieces]


@pytest.mark.parametrize(("batch_size", "rows"), [(1, 64), (8, 64), (24, 72), (64, 64), (128, 128)])
def test_chunks_hold_whole_batches(batch_size, rows):
    divided = list(chunks.divide(inputs(300), batch_size))
    assert [len(chunk.paths) for chunk in divided[:-1]] == [rows] * (len(divided) - 1)
    assert [path for chunk in divided for path in chunk.paths] == [str(index) for index in range(300)]


def test_pieces_are_of_few_files_or_of_few_bytes(tmp_path, monkeypatch):
    assert files(next(chunks.divide(inputs(70), 64))) == [32, 32]
    monkeypatch.setattr(chunks, "PIECE_BYTES", 1000)
    large = tmp_path / "large.jpg"
    large.write_bytes(b"x" * 990)
    items = [*inputs(3), local_input(str(large)), *inputs(5)]
    assert files(next(chunks.divide(items, 64))) == [3, 2, 4]
    huge = tmp_path / "huge.jpg"
    huge.write_bytes(b"x" * 5000)
    assert files(next(chunks.divide([local_input(str(huge))] * 3, 64))) == [1, 1, 1]


def test_inputs_are_taken_as_chunks_are():
    taken = []
    divided = chunks.divide((taken.append(item) or item for item in inputs(1000)), 8)
    next(divided)
    assert len(taken) == 64


def test_halves_take_the_place_of_their_whole():
    chunk = next(chunks.divide(inputs(64), 64))
    first, second = chunk.pieces
    assert chunk.bisect(second) == chunk.pieces[1:]
    assert files(chunk) == [32, 16, 16]
    assert chunk.paths == [str(index) for index in range(64)]
    assert chunk.pieces[0] is first


def test_sizes_that_are_known_without_opening(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"123")
    assert size_of(local_input(str(path))) == 3
    assert size_of(local_input("a.jpg", tmp_path)) == 3
    assert size_of(given_input("bytes", b"12")) == 2
    assert size_of(local_input(str(tmp_path / "no.jpg"))) is None
    assert size_of(local_input("a\0b")) is None
    assert not chunks.is_here(local_input(str(tmp_path / "no.jpg")))
    assert chunks.is_here(local_input(str(path)))


def test_inputs_go_to_other_processes(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("good.jpg", b"good" * 100)
        file.writestr("bad.jpg", b"bad" * 100)
    data = bytearray(archive.read_bytes())
    data[data.index(b"bad.jpg") + 9] ^= 0xFF
    archive.write_bytes(data)
    good, bad, missing = (
        pickle.loads(pickle.dumps(item)) for item in [*Reader([str(archive)]), failed_input("c", "empty", "nothing")]
    )
    assert (good.path, good.size, good.open()) == (f"{archive}/good.jpg", 400, b"good" * 100)
    with pytest.raises(ImageError, match="cannot be unpacked") as corrupt:
        bad.open()
    assert pickle.loads(pickle.dumps(corrupt.value)).code == "corrupt"
    with pytest.raises(ImageError, match="nothing"):
        missing.open()


def test_urls_go_to_other_processes(tmp_path):
    pytest.importorskip("fsspec")
    (tmp_path / "a.jpg").write_bytes(b"123")
    for source in (f"file://{tmp_path}", f"file://{tmp_path}/a.jpg"):
        (item,) = map(pickle.loads, map(pickle.dumps, Reader([source])))
        assert item.open() == b"123"
    (listed,) = Reader([f"file://{tmp_path}"])
    assert listed.size == 3
