import pytest
from kerasxfer_serving.errors import KerasxferError

from kerasxfer.demo.folder import DemoFolder
from kerasxfer.demo.images import draw_folder


def contents(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def demo(tmp_path):
    """What a demo has written, in part, and files of somebody else's among it."""
    folder = DemoFolder(tmp_path / "demo")
    folder.prepare(overwrite=False)
    draw_folder(folder.images / "train", ["fish"], 2, size=8)
    folder.transfer.path.mkdir()
    for path in (folder.transfer.record, folder.transfer.model, folder.report, folder.summary):
        path.touch()
    return folder


def test_overwriting_discards_what_a_demo_wrote_and_nothing_else(demo):
    mine = ("notes.md", "pictures/train/fish/mine.png", "transfer/thesis.txt", "cache/v1/mine.npy")
    for name in mine:
        (demo.path / name).parent.mkdir(parents=True, exist_ok=True)
        (demo.path / name).write_text("mine")
    with pytest.raises(KerasxferError, match="--overwrite"):
        demo.prepare(overwrite=False)
    demo.prepare(overwrite=True)
    assert contents(demo.path) == {*mine, "demo.json"}


def test_a_demo_leaves_nothing_when_it_is_discarded(demo):
    demo.discard()
    assert list(demo.path.iterdir()) == []


@pytest.mark.parametrize("mark", [None, "", "{}", "[]", "3"])
def test_a_folder_of_somebody_else_is_refused(tmp_path, mark):
    (tmp_path / "notes.md").write_text("mine")
    if mark is not None:
        (tmp_path / "demo.json").write_text(mark)
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(KerasxferError, match="other files"):
            DemoFolder(tmp_path).prepare(overwrite)
    assert contents(tmp_path) == before
