"""The store under every fault that a disk, a killed builder or a person can cause."""

import json
import os
import resource
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from kerasxfer.bottleneck import features as features_module
from kerasxfer.bottleneck import maintenance, store
from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.store import Shelf

KEYS = ["a", "b", "c", "d"]
FEATURES = np.arange(24, dtype="float32").reshape(4, 3, 2)


@pytest.fixture
def shelf(tmp_path):
    shelf = Shelf(tmp_path, "f" * 32)
    shelf.describe({"boundary": "pool"})
    return shelf


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


# fsync and rename of the features, then of the sidecar, and the end: after the fourth step the shard exists.
@pytest.mark.parametrize("step", range(1, 6))
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
    assert shelf.keys() == (set(KEYS) if step == 5 else set())
    if step < 5:
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
        (lambda shard: os.truncate(shard, 100), "is cut short, or its sidecar is"),
        (lambda shard: os.truncate(shard.with_suffix(".json"), 20), "is cut short, or its sidecar is"),
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
    name = store.shard_name(KEYS)
    with FileLock(shelf.path / f"{name}.lock"), shelf.lock(KEYS) as ours:
        assert not ours
    (shelf.path / f"{name}.lock").touch()  # stale
    (shelf.path / f".{name}.npy.1-1.tmp").touch()
    with shelf.lock(KEYS) as ours:
        assert ours
    assert files(shelf) == ["manifest.json"]


def test_gc_leaves_what_a_living_builder_writes(filled, tmp_path):
    temporary = filled.path / ".shard-0.npy.1-1.tmp"
    temporary.touch()
    with FileLock(filled.path / "shard-0.lock"):
        maintenance.collect(tmp_path)
        assert temporary.exists()
    maintenance.collect(tmp_path)
    assert not temporary.exists()
    assert filled.keys() == set(KEYS)


def test_gc_removes_the_longest_unused_first(tmp_path):
    for age, name in ((2, "old"), (1, "new")):
        shelf = Shelf(tmp_path, name)
        shelf.describe({})
        shelf.write([name], FEATURES[:1])
        then = (shelf.path / "manifest.json").stat().st_mtime - age * 86400
        os.utime(shelf.path / "manifest.json", (then, then))
    half = maintenance.size(tmp_path) // 2 + 50
    assert maintenance.collect(tmp_path, half) == [{"removed": "old", "why": "over the budget"}]
    assert maintenance.collect(tmp_path, older_than=0.5) == [{"removed": "new", "why": "not used for 1 days"}]
    assert maintenance.shelves(tmp_path) == []


def test_a_full_disk_is_an_error_that_says_so(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted")
    try:
        shelf = Shelf(disk, "f")
        shelf.write(["small"], FEATURES[:1])
        with pytest.raises(CacheError, match=r"The disk is full.*Finished shards stay valid"):
            shelf.write(["large"], np.zeros((1, 100_000), "float32"))
        assert files(shelf, ".*.tmp") == []
        np.testing.assert_array_equal(np.asarray(shelf.open(["small"])), FEATURES[:1])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_limit_of_the_file_size_is_an_error_that_says_so(shelf):
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
        shelf = Shelf(disk, "f")
        shelf.write(KEYS, FEATURES)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        np.testing.assert_array_equal(np.asarray(shelf.open(KEYS)), FEATURES)
        with pytest.raises(CacheError, match="It is read-only: name a directory"):
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
    store.remove_shard(next(filled.path.glob("*.npy")))
    with pytest.raises(CacheError, match=r"has gone or changed while it was in use.*Run again"):
        features.read([0])


def test_a_shard_cut_short_while_in_use_is_an_error_not_a_crash(filled):
    features = filled.open(KEYS)
    features.read([0])
    (shard,) = filled.path.glob("*.npy")
    os.truncate(shard, shard.stat().st_size - 1)
    np.testing.assert_array_equal(features.read([0]), FEATURES[:1])
    with pytest.raises(CacheError, match=r"has gone or changed while it was in use.*Run again"):
        features.read([3])


def test_more_shards_than_files_may_be_open(shelf, monkeypatch):
    monkeypatch.setattr(features_module, "MAX_OPEN_FILES", 2)
    for k, key in enumerate(KEYS):
        shelf.write([key], FEATURES[k : k + 1])
    features = shelf.open(KEYS)
    for rows in ([3, 0, 1, 2], [2, 2, 0, 3]):
        np.testing.assert_array_equal(features.read(rows), FEATURES[rows])
