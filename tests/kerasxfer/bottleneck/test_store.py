"""The store under every fault that a disk, a killed builder or a person can cause."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from kerasxfer.bottleneck import maintenance, shards
from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.shards import remove_shard, shard_name
from kerasxfer.bottleneck.store import Shelf, size_of_all

KEYS = ["a", "b", "c", "d"]
FEATURES = np.arange(24, dtype="float32").reshape(4, 3, 2)
MANIFEST = {"model": "m", "boundary": "pool", "shape": [3, 2], "dtype": "float32", "platform": {"backend": "none"}}


def make_shelf(root, fingerprint="f" * 32):
    shelf = Shelf(root, fingerprint)
    with shelf.building(MANIFEST):
        pass
    return shelf


@pytest.fixture
def shelf(tmp_path):
    return make_shelf(tmp_path)


@pytest.fixture
def filled(shelf):
    shelf.write(KEYS, FEATURES)
    return shelf


def files(shelf, pattern="*"):
    return sorted(path.name for path in shelf.path.glob(pattern))


def test_rows_come_back_in_any_order(filled):
    filled.write(["e"], FEATURES[:1] + 100)
    features = filled.open(["d", "e", "a"])
    assert features.shape == (3, 3, 2)
    np.testing.assert_array_equal(features.read([2, 0, 1]), [FEATURES[0], FEATURES[3], FEATURES[0] + 100])
    np.testing.assert_array_equal(np.asarray(features)[1], FEATURES[0] + 100)
    with pytest.raises(CacheError, match=r"lacks 1 of 2 rows.*Build it again"):
        filled.open(["a", "z"])


def test_the_file_is_a_plain_npy(filled):
    (shard,) = filled.path.glob("*.npy")
    np.testing.assert_array_equal(np.load(shard), FEATURES)
    sidecar = json.loads(shard.with_suffix(".json").read_text())
    assert sidecar["keys"] == KEYS
    assert (sidecar["minimum"], sidecar["maximum"], sidecar["nonfinite"]) == (0.0, 23.0, 0)


# fsync, rename and fsync of the folder for the features, then for the sidecar, and the end: the fifth makes the shard.
@pytest.mark.parametrize("step", range(1, 8))
def test_a_kill_at_any_step_leaves_all_or_nothing(shelf, step):
    child = os.fork()
    if not child:
        calls = iter(range(1, 100))

        def dying(function):
            def call(*args):
                if next(calls) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args)

            return call

        os.fsync, Path.replace = dying(os.fsync), dying(Path.replace)
        shelf.write(KEYS, FEATURES)
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert shelf.keys() == (set(KEYS) if step > 5 else set())
    if step <= 5:
        with pytest.raises(CacheError, match="lacks 4 of 4"):
            shelf.open(KEYS)
        shelf.write(KEYS, FEATURES)
    np.testing.assert_array_equal(np.asarray(shelf.open(KEYS)), FEATURES)
    maintenance.collect(shelf.path.parents[1])
    assert files(shelf, "*.*") == files(shelf, "manifest.json") + files(shelf, "shard-*.json") + files(shelf, "*.npy")
    assert not list(shelf.path.glob(".*.tmp"))
    np.testing.assert_array_equal(np.asarray(shelf.open(KEYS)), FEATURES)


def test_a_flipped_bit_is_found_and_built_again(filled, tmp_path):
    (shard,) = filled.path.glob("*.npy")
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)
    (row,) = maintenance.verify(tmp_path)
    assert row["problem"] == "does not match its hash"
    with pytest.raises(CacheError, match="lacks 4 of 4"):
        filled.open(KEYS)
    assert files(filled, "shard-*") == []


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda shard: os.truncate(shard, 100), "does not fit its sidecar"),
        (lambda shard: os.truncate(shard.with_suffix(".json"), 20), "does not fit its sidecar"),
        (lambda shard: shard.with_suffix(".json").unlink(), "has no .json beside it"),
        (lambda shard: shard.unlink(), "has no .npy beside it"),
    ],
)
def test_half_a_shard_is_none(filled, tmp_path, damage, problem):
    damage(next(filled.path.glob("*.npy")))
    assert problem in {row["problem"] for row in maintenance.verify(tmp_path)}
    with pytest.raises(CacheError, match="lacks 4 of 4"):
        filled.open(KEYS)
    filled.write(KEYS, FEATURES)
    np.testing.assert_array_equal(np.asarray(filled.open(KEYS)), FEATURES)
    assert maintenance.verify(tmp_path) == []


def test_a_living_builder_holds_its_shard_and_a_dead_one_does_not(shelf):
    name = shard_name(KEYS)
    with FileLock(shelf.path / f"{name}.lock"), shelf.lock(KEYS) as ours:
        assert not ours
    (shelf.path / f"{name}.lock").touch()  # stale
    with shelf.lock(KEYS) as ours:
        assert ours
    assert files(shelf) == ["manifest.json"]


def leave_what_dead_builders_leave(shelf):
    """A claim of the shelf and of a shard, a file in the making, features without their sidecar."""
    left = [".build-1-0.lock", f"{shard_name('z')}.lock", f".{shard_name('z')}.npy.1-0.tmp", f"{shard_name('y')}.npy"]
    for name in left:
        (shelf.path / name).touch()
    return left


@pytest.mark.parametrize("who", ["gc", "the next build"])
def test_what_dead_builders_left_is_removed(filled, tmp_path, who):
    before = files(filled)
    left = leave_what_dead_builders_leave(filled)
    if who == "gc":
        removed = maintenance.collect(tmp_path)
        assert {Path(row["removed"]).name for row in removed} == set(left[1:]), "and the claim, as it is looked at"
    else:
        make_shelf(tmp_path)
    assert files(filled) == before


def test_gc_leaves_a_shelf_at_which_a_builder_is_at_work(tmp_path):
    shelf = Shelf(tmp_path, "f" * 32)
    with shelf.building(MANIFEST):
        (shelf.path / f".{shard_name('z')}.npy.1-0.tmp").touch()
        before = files(shelf)
        assert maintenance.collect(tmp_path, budget=0, older_than=0) == []
        with shelf.building(MANIFEST):  # a second one leaves alone what the first is writing
            assert set(before) <= set(files(shelf))
        assert files(shelf) == before
        shelf.write(KEYS, FEATURES)
    np.testing.assert_array_equal(np.asarray(shelf.open(KEYS)), FEATURES)
    assert [row["why"] for row in maintenance.collect(tmp_path, budget=0)] == ["unfinished", "over the budget"]
    assert not shelf.path.exists()


def test_gc_removes_the_longest_unused_first(tmp_path):
    for age, name in ((2, "a" * 32), (1, "b" * 32)):
        shelf = make_shelf(tmp_path, name)
        shelf.write([name], FEATURES[:1])
        then = (shelf.path / "manifest.json").stat().st_mtime - age * 86400
        os.utime(shelf.path / "manifest.json", (then, then))
    half = size_of_all(tmp_path) // 2 + 50
    assert maintenance.collect(tmp_path, half) == [{"removed": "a" * 32, "why": "over the budget"}]
    assert maintenance.collect(tmp_path, older_than=0.5) == [{"removed": "b" * 32, "why": "not used for 1 days"}]
    assert maintenance.shelves(tmp_path) == []


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_folder_in_place_of_a_file_is_named(filled, suffix):
    (shard,) = filled.path.glob("*.npy")
    place = shard.with_suffix(suffix)
    place.unlink()
    place.mkdir()
    assert not filled.has_shard(KEYS)
    with pytest.raises(CacheError, match=rf"`{place}` is a folder where the cache has a file: remove it"):
        filled.write(KEYS, FEATURES)
    place.rmdir()
    filled.write(KEYS, FEATURES)
    assert filled.has_shard(KEYS)


def test_gc_says_what_it_may_not_remove(filled, tmp_path):
    make_shelf(tmp_path, "a" * 32)
    filled.path.chmod(0o555)
    if os.access(filled.path, os.W_OK):
        pytest.skip("the superuser may remove everything")
    try:
        with pytest.raises(CacheError, match=rf"`{filled.path}` cannot be removed.*Removed: 1"):
            maintenance.collect(tmp_path, budget=0)
        assert filled.is_ours
    finally:
        filled.path.chmod(0o755)
    assert maintenance.collect(tmp_path, budget=0) == [{"removed": "f" * 32, "why": "over the budget"}]


def test_gc_touches_only_what_a_cache_has_made(filled, tmp_path):
    """A folder of images, folders that look like shelves, links into and out of the cache, notes beside the shards."""
    elsewhere = tmp_path / "elsewhere"
    foreign = make_shelf(elsewhere, "d" * 32)
    foreign.write(KEYS, FEATURES)
    root = filled.path.parent
    for folder in ("photos", "a" * 32, "b" * 32):
        (root / folder).mkdir()
        for name in ("1.jpg", f"{shard_name('z')}.npy", ".shard-0.npy.1-0.tmp", f"{shard_name('z')}.lock"):
            (root / folder / name).write_bytes(b"mine")
    (root / ("b" * 32) / "manifest.json").write_text('{"name": "a web app"}')
    (root / ("d" * 32)).symlink_to(foreign.path)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "v1").symlink_to(foreign.path.parent)
    (filled.path / "notes.txt").write_text("mine")
    (filled.path / f"{shard_name('link')}.npy").symlink_to(foreign.path / "manifest.json")
    for cache in (tmp_path, tmp_path / "linked"):
        before = {path for path in tmp_path.rglob("*") if path.parent != filled.path}
        maintenance.collect(cache, budget=0, older_than=0)
        assert {path for path in tmp_path.rglob("*") if path.parent != filled.path} == before
    assert files(filled) == ["notes.txt", f"{shard_name('link')}.npy"]
    assert foreign.keys() == set(KEYS)


def test_a_full_disk_is_an_error_that_says_so(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted")
    try:
        shelf = make_shelf(disk)
        shelf.write(["small"], FEATURES[:1])
        with pytest.raises(CacheError, match=r"cannot be written: No space left.*Finished shards stay valid"):
            shelf.write(["large"], np.zeros((1, 100_000), "float32"))
        assert files(shelf, ".*.tmp") == []
        np.testing.assert_array_equal(np.asarray(shelf.open(["small"])), FEATURES[:1])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_limit_of_the_file_size_is_an_error_that_says_so(shelf, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # modules must not be compiled to files that are cut
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(CacheError, match="refuses files of this size"):
            shelf.write(["large"], np.zeros((1, 100_000), "float32"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert files(shelf) == ["manifest.json"]


def test_a_read_only_directory_serves_and_refuses_to_grow(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not permitted, and root ignores permissions")
    try:
        shelf = make_shelf(disk)
        shelf.write(KEYS, FEATURES)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        np.testing.assert_array_equal(np.asarray(shelf.open(KEYS)), FEATURES)
        with pytest.raises(CacheError, match=r"Read-only file system\. Name a place"):
            shelf.write(["e"], FEATURES[:1])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_moved_directory_is_as_good(filled, tmp_path):
    moved = tmp_path / "moved"
    filled.path.parents[1].joinpath("v1").rename(moved)
    target = tmp_path / "elsewhere"
    target.mkdir()
    moved.rename(target / "v1")
    np.testing.assert_array_equal(np.asarray(Shelf(target, "f" * 32).open(KEYS)), FEATURES)


def test_features_pickle_without_their_handles(filled):
    import pickle

    features = filled.open(KEYS)
    features.read([0])
    assert len(pickle.dumps(features)) < 2000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(features)).read([1]), FEATURES[1:2])


def test_a_shard_that_goes_while_in_use_is_an_error_with_a_remedy(filled):
    features = filled.open(KEYS)
    remove_shard(next(filled.path.glob("*.npy")))
    with pytest.raises(CacheError, match=r"disappeared or changed while in use.*Run again"):
        features.read([0])


DAMAGES = {
    "cut at a tenth": lambda shard, tenth: os.truncate(shard, shard.stat().st_size * tenth // 10),
    "flipped": lambda shard, tenth: flip(shard, shard.stat().st_size * tenth // 10),
    "removed": lambda shard, tenth: shard.unlink(),
    "a sidecar cut at a tenth": lambda shard, tenth: DAMAGES["cut at a tenth"](shard.with_suffix(".json"), tenth),
    "a sidecar flipped": lambda shard, tenth: DAMAGES["flipped"](shard.with_suffix(".json"), tenth),
}


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("tenth", range(10))
def test_damage_is_noticed_by_builder_and_reader_alike(filled, damage, tenth):
    filled.write(["e"], FEATURES[:1])
    DAMAGES[damage](filled.path / f"{shard_name(KEYS)}.npy", tenth)
    try:
        read = np.asarray(filled.open([*KEYS, "e"]))
    except CacheError:
        assert not filled.has_shard(KEYS)
        assert filled.keys() == {"e"}
        filled.write(KEYS, FEATURES)
        read = np.asarray(filled.open([*KEYS, "e"]))
    np.testing.assert_array_equal(read, [*FEATURES, FEATURES[0]])


LIES = {
    "fingerprint": ["e" * 32, None],
    "keys": [["b", "a", "c", "d"], ["a", "b", "c"], [1, 2, 3, 4], None, [["a"], "b", "c", "d"]],
    "shape": [[4, 2, 3], [2, 6, 2], [4, 6], [4], [], [-4, 3, 2], [4e99, 3, 2], [4, 3, 2, 1], None, [10**30, 3]],
    "dtype": ["int32", ">f4", "float16", "O", "void", "no", ["float32"], None, "V99999999999"],
    "sha256": ["0" * 64, "", None, 7],
}


@pytest.mark.parametrize(("field", "lie"), [(field, lie) for field, lies in LIES.items() for lie in lies])
def test_a_sidecar_that_lies_stands_for_nothing(filled, field, lie):
    sidecar = filled.path / f"{shard_name(KEYS)}.json"
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), field: lie}))
    assert not filled.has_shard(KEYS)
    with pytest.raises(CacheError, match="lacks 4 of 4"):
        filled.open(KEYS)
    filled.write(KEYS, FEATURES)
    np.testing.assert_array_equal(np.asarray(filled.open(KEYS)), FEATURES)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "7", "{}", "[" * 10**5, "\0" * 100, "\udcff", '{"keys": 3}']
)
def test_a_sidecar_that_is_garbage_stands_for_nothing(filled, content):
    sidecar = filled.path / f"{shard_name(KEYS)}.json"
    sidecar.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert not filled.has_shard(KEYS)
    assert filled.keys() == set()


@pytest.mark.parametrize("also_sidecars", [False, True])
def test_shards_that_have_changed_places_are_noticed(filled, tmp_path, also_sidecars):
    """Within a shelf, and with the same rows' shard of another shelf: other weights, say."""
    other = make_shelf(tmp_path, "a" * 32)
    other.write(KEYS, FEATURES + 50)
    filled.write(["e", "f", "g", "h"], FEATURES + 100)
    first, second = (filled.path / f"{shard_name(keys)}.npy" for keys in (KEYS, ["e", "f", "g", "h"]))
    for one, two in ((first, second), (first, other.path / first.name)):
        for suffix in (".npy", ".json")[: 1 + also_sidecars]:
            spare = tmp_path / "spare"
            one.with_suffix(suffix).rename(spare)
            two.with_suffix(suffix).rename(one.with_suffix(suffix))
            spare.rename(two.with_suffix(suffix))
        assert not filled.has_shard(KEYS)
        assert not set(KEYS) & filled.keys()
        filled.write(KEYS, FEATURES)
        np.testing.assert_array_equal(np.asarray(filled.open(KEYS)), FEATURES)


@pytest.mark.parametrize("row", range(4))
def test_a_bit_flipped_while_in_use_is_an_error_with_a_remedy(filled, row):
    features = filled.open(KEYS)
    np.testing.assert_array_equal(features.read([0, 1, 2, 3]), FEATURES)
    shard = filled.path / f"{shard_name(KEYS)}.npy"
    with shard.open("r+b") as file:  # in place: the open file sees it
        file.seek(-1 - 24 * row, os.SEEK_END)
        file.write(b"?")
    with pytest.raises(CacheError, match=r"does not match its hash.*Run again"):
        features.read([row])
    with pytest.raises(CacheError, match="lacks 4 of 4"):
        filled.open(KEYS)


def test_a_file_that_was_touched_but_not_changed_serves_on(filled):
    features = filled.open(KEYS)
    os.utime(filled.path / f"{shard_name(KEYS)}.npy", (1, 1))
    np.testing.assert_array_equal(features.read([2, 0]), FEATURES[[2, 0]])


def test_a_shard_cut_short_while_in_use_is_an_error_not_a_crash(filled):
    features = filled.open(KEYS)
    features.read([0])
    (shard,) = filled.path.glob("*.npy")
    os.truncate(shard, shard.stat().st_size - 1)
    for row in (0, 3):
        with pytest.raises(CacheError, match=r"disappeared or changed while in use.*Run again"):
            features.read([row])


def test_more_shards_than_files_may_be_open(shelf, monkeypatch):
    monkeypatch.setattr(shards, "MAX_OPEN_FILES", 2)
    for k, key in enumerate(KEYS):
        shelf.write([key], FEATURES[k : k + 1])
    features = shelf.open(KEYS)
    for rows in ([3, 0, 1, 2], [2, 2, 0, 3]):
        np.testing.assert_array_equal(features.read(rows), FEATURES[rows])
