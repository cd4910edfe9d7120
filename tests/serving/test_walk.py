"""Which files of a folder are images: one rule."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kerasxfer_serving.images import IMAGE_SUFFIXES
from kerasxfer_serving.inputs.reader import Reader
from kerasxfer_serving.inputs.walk import LeftOut, find_images, is_image_name, list_folders, reason_left_out, walk
from PIL import features


def put(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")


def found(root):
    left_out = LeftOut()
    return list(find_images(root, left_out)), dict(left_out.counts)


SYSTEM = [
    "@eaDir/x.jpg/SYNOPHOTO_THUMB_XL.jpg", "__MACOSX/._x.jpg", "__MACOSX/x.jpg", ".AppleDouble/x.jpg", "#recycle/x.jpg",
    "$RECYCLE.BIN/S-1-5/x.jpg", "System Volume Information/x.jpg", "lost+found/x.jpg", ".Trash-1000/files/x.jpg",
    ".ipynb_checkpoints/x-checkpoint.jpg", ".thumbnails/x.png", "@Recycle/x.jpg", ".@__thumb/x.jpg", "LOST.DIR/x.jpg",
    "deep/er/@eadir/x.jpg",
]  # fmt: skip


@pytest.mark.parametrize("path", SYSTEM)
def test_folders_of_systems_are_left_out_and_named(tmp_path, path):
    put(tmp_path, "x.jpg", path)
    images, left_out = found(tmp_path)
    assert images == ["x.jpg"]
    assert list(left_out.values()) == [1]
    assert next(iter(left_out)) in ("system folders", "hidden folders")


@pytest.mark.parametrize(
    "name", ["._x.jpg", ".x.jpg", ".trashed-1700000000-x.jpg", "Thumbs.db", "desktop.ini", "~$x.png"]
)
def test_files_of_systems_and_hidden_ones_are_left_out_and_named(tmp_path, name):
    put(tmp_path, "x.jpg", name)
    assert found(tmp_path) == (["x.jpg"], {"hidden files" if name == ".x.jpg" else "system files": 1})


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_every_suffix_of_a_format_that_is_read_is_taken(tmp_path):
    names = [f"x{suffix}" for suffix in sorted(IMAGE_SUFFIXES)] + ["UPPER.JPE"]
    put(tmp_path, *names, "notes.txt", "raw.CR3", "README")
    assert {".jpe", ".jfif", ".apng", ".tif"} <= IMAGE_SUFFIXES
    assert found(tmp_path) == (sorted(names), {".txt": 1, ".cr3": 1, "no suffix": 1})


def test_a_format_without_its_plugin_is_named_with_the_remedy(tmp_path):
    pytest.importorskip("PIL")
    try:
        import pillow_heif  # noqa: F401

        pytest.skip("pillow-heif is installed")
    except ImportError:
        pass
    put(tmp_path, "x.heic", "y.HIF", "z.jpg")
    assert found(tmp_path) == (["z.jpg"], {"HEIF files (`pip install pillow-heif`)": 2})
    first, *_ = walk(tmp_path)
    assert (first.path, first.error.code) == (str(tmp_path / "x.heic"), "unsupported")


def test_the_folder_itself_may_have_any_name(tmp_path):
    put(tmp_path / ".cache" / "@eaDir", "x.jpg")
    assert list(find_images(tmp_path / ".cache" / "@eaDir")) == ["x.jpg"]


def test_class_folders(tmp_path):
    put(tmp_path, "cats/x.jpg", "@eaDir/x.jpg", "__MACOSX/x.jpg", ".git/x", "dogs/x.jpg", "x.jpg")
    (tmp_path / "emus").symlink_to("cats")
    left_out = LeftOut()
    assert list_folders(tmp_path, left_out) == ["cats", "dogs", "emus"]
    assert left_out.counts == {"system folders": 2, "hidden folders": 1}


def test_each_real_folder_is_entered_once(tmp_path):
    """A diamond of links has two to the power of its height ways through it."""
    folder = tmp_path
    for _ in range(40):
        (folder / "down").mkdir()
        (folder / "other").symlink_to("down")
        folder = folder / "down"
    put(folder, "x.jpg")
    assert found(tmp_path) == (["down/" * 40 + "x.jpg"], {"folders seen before": 40})


def test_a_link_upwards_brings_nothing_into_a_folder(tmp_path):
    """What lies beside a class is of another class."""
    put(tmp_path, "cats/1.jpg")
    put(tmp_path, "dogs/2.jpg")
    (tmp_path / "cats/up").symlink_to(tmp_path)
    (tmp_path / "cats/far up").symlink_to("/")
    assert found(tmp_path / "cats") == (["1.jpg"], {"folders seen before": 2})
    (tmp_path / "link").symlink_to("cats")
    assert found(tmp_path / "link") == (["1.jpg"], {"folders seen before": 2})


@pytest.fixture
def abyss(tmp_path, monkeypatch):
    """A folder with folders in it, deeper than Python's recursion and the system's paths can go."""
    monkeypatch.chdir(tmp_path)
    for _ in range(1500):
        os.mkdir("down")  # noqa: PTH102
        os.chdir("down")
    put(Path(), "x.jpg")
    yield tmp_path
    Path("x.jpg").unlink()  # here, since not even pytest can remove it
    for _ in range(1500):
        os.chdir("..")
        os.rmdir("down")  # noqa: PTH106


def test_folders_deeper_than_a_path_can_say_have_a_row(abyss):
    (entry,) = walk(abyss)
    assert entry.error.code == "unreadable"
    assert found(abyss) == ([], {"folders that cannot be listed": 1})


def test_a_name_that_is_not_utf_8(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    put(tmp_path / os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff.jpg"))
    (image,) = find_images(tmp_path)
    assert os.fsencode(image) == b"caf\xe9/\xff.jpg"


def test_the_report_counts_and_gives_examples(tmp_path):
    put(tmp_path, "x.jpg", "@eaDir/x.jpg", *(f"{number}.txt" for number in range(9)), "a\x1b[2J.md")
    left_out = LeftOut()
    list(find_images(tmp_path, left_out))
    root = str(tmp_path)
    assert left_out.to_dict()[".txt"] == {"count": 9, "examples": [f"{root}/{number}.txt" for number in range(3)]}
    assert str(left_out) == f"1 system folders ({root}/@eaDir), 9 .txt ({root}/0.txt, …), 1 .md ({root}/a\\x1b[2J.md)"
    everything = LeftOut(kept=100)
    list(find_images(tmp_path, everything))
    assert len(everything.examples[".txt"]) == 9


PARTS = st.sampled_from(["a", "b.jpg", "@eaDir", ".x", "._y.png", "c.JPE", "n.txt", "__MACOSX", "Thumbs.db", "d.heic"])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.sets(st.lists(PARTS, min_size=1, max_size=3).map("/".join), max_size=8))
def test_training_and_prediction_find_the_same_files(tmp_path_factory, paths):
    root = tmp_path_factory.mktemp("tree")
    for path in sorted(paths):
        if not any((root / parent).is_file() for parent in Path(path).parents) and not (root / path).exists():
            put(root, path)
    left_out = LeftOut()
    trained_on = list(find_images(root, left_out))
    reader = Reader([str(root)])
    predicted = [item.path for item in reader]
    assert trained_on == sorted(trained_on)
    assert {str(root / path) for path in trained_on} <= set(predicted)
    for path in set(predicted) - {str(root / path) for path in trained_on}:
        assert Path(path).is_dir() or path.endswith(".heic")
    everything = [entry.path for entry in walk(root, all_files=True) if not Path(entry.path).is_dir()]
    wanted = [Path(path).relative_to(root) for path in everything]
    assert trained_on == [
        str(path)
        for path in wanted
        if is_image_name(path.name)
        and path.suffix != ".heic"
        and not any(reason_left_out(name, is_folder=True) for name in path.parts[:-1])
    ]
