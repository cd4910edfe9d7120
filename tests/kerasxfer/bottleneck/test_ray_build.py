"""A cache built by Ray's workers is the one that a local build makes, file by file, whatever dies on the way."""

import contextlib
import os
import signal
import threading
import time
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

import kerasxfer
from kerasxfer import Stage
from kerasxfer.bottleneck.errors import CacheError

psutil = pytest.importorskip("psutil")
ray = pytest.importorskip("ray")

STAGES = [Stage(epochs=1), Stage("block3", epochs=1), Stage("block2", epochs=1)]
WORKER = "ray::kerasxfer cache"
# Each worker imports the backend anew: in `make test` on the one that starts fastest.
slow_but_on_one_backend = pytest.mark.slow if keras.backend.backend() != "torch" else lambda test: test


@pytest.fixture(scope="module", autouse=True)
def cluster():
    from kerasxfer_serving.cluster import ray as ray_cluster

    with ray_cluster.start(num_cpus=2):
        yield


@pytest.fixture
def make_cache(tmp_path):
    """Make a cache of small shards: four images each at the largest boundary."""

    def make(name):
        cache = kerasxfer.BottleneckCache(tmp_path / name, verbose=0)
        cache.settings = replace(cache.settings, shard_bytes=4 * 1536)
        return cache

    return make


def files(cache):
    """Content of every shard and sidecar by its path."""
    paths = cache.directory.glob("v1/*/shard-*")
    return {str(path.relative_to(cache.directory)): path.read_bytes() for path in paths}


@slow_but_on_one_backend
@pytest.mark.timeout(300)
def test_the_files_are_those_of_a_local_build(make_model, make_folder, make_cache, image_folder):
    model = make_model(trainable={"dense"})
    local, remote = make_cache("local"), make_cache("remote")
    local.build(model, make_folder(), STAGES)
    plan = remote.build_on_ray(model, make_folder(), STAGES, num_workers=2)
    assert plan.pictures == 22
    assert len(files(local)) == 3 * 6 * 2
    assert files(remote) == files(local)
    assert remote.verify() == []
    before = {path: path.stat().st_mtime_ns for path in remote.directory.rglob("*.npy")}
    remote.build_on_ray(model, make_folder(), STAGES)
    remote.build(model, make_folder(), STAGES)
    assert {path: path.stat().st_mtime_ns for path in remote.directory.rglob("*.npy")} == before

    # An error of a worker is that of a local build.
    with pytest.raises(CacheError, match=r"^The model gives NaN or infinity at `flatten` for 'a/0.png'"):
        remote.build_on_ray(nan_model(), make_folder())
    (image_folder / "a" / "broken.png").write_bytes(b"no image")
    with pytest.raises(CacheError, match=r"1 image\(s\) in .* cannot be read:\n.*a/broken.png"):
        remote.build_on_ray(model, make_folder(), STAGES)
    with pytest.raises(CacheError, match="an `ImageFolder` or arrays"):
        remote.build_on_ray(model, [make_folder()[k] for k in range(2)])


def nan_model():
    layers = [keras.layers.Conv2D(2, 3, trainable=False, name="frozen"), keras.layers.Flatten(name="flatten")]
    model = keras.Sequential([keras.Input((16, 16, 3)), *layers, keras.layers.Dense(3, name="dense")])
    layers[0].set_weights([weights * np.nan for weights in layers[0].get_weights()])
    return model


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_worker_costs_the_shard_it_was_at(make_model, make_cache, tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "many" / "a").mkdir(parents=True)
    for k in range(600):
        pixels = generator.integers(0, 255, (16, 16, 3), dtype="uint8")
        Image.fromarray(pixels).save(tmp_path / "many" / "a" / f"{k:03d}.png")
    folder = kerasxfer.ImageFolder(tmp_path / "many", (16, 16), 4, seed=3)
    model, local, remote = make_model(trainable={"dense"}), make_cache("local"), make_cache("remote")
    local.build(model, folder, STAGES)
    killed = []

    def kill():
        while not list(remote.directory.glob("v1/*/shard-*.json")):
            time.sleep(0.001)
        finished.update((path, path.stat().st_ino) for path in remote.directory.glob("v1/*/shard-*.json"))
        for process in psutil.process_iter(["cmdline"]):
            if " ".join(process.info["cmdline"] or []).startswith(WORKER):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)

    finished = {}
    killer = threading.Thread(target=kill)
    killer.start()
    remote.build_on_ray(model, folder, STAGES, num_workers=2)
    killer.join()
    assert killed
    assert 0 < len(finished) < 3 * 150, "the kill must come in the middle"
    shards = {path: data for path, data in files(remote).items() if not path.endswith(".lock")}
    assert shards == files(local)
    assert {path: path.stat().st_ino for path in finished} == finished
    assert remote.verify() == []
    remote.gc()  # the dead worker's lock and temporary file
    assert files(remote) == files(local)
    assert not list(remote.directory.rglob(".*.tmp"))
