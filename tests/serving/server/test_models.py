import os
import threading

import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.predictor import Predictor
from kerasxfer_serving.server import ServerOptions
from kerasxfer_serving.server.models import ServedModel, open_model
from kerasxfer_serving.server.registry import Registry, as_sources
from kerasxfer_serving.server.watching import Watcher


def _decoded(model, count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 48, 40, 3), "uint8")
    return [model.decode(array) for array in pixels]


def test_a_batch_goes_to_the_smallest_bucket_that_holds_it(net):
    """What a GPU does; two predictors of the CPU stand for its sessions."""
    ran = []

    class Recording(Predictor):
        def predict_decoded(self, paths, images, **more):
            ran.append(self.batch_size)
            return super().predict_decoded(paths, images, **more)

    predictors = {size: Recording(net, device="cpu", threads=1, batch_size=size) for size in (8, 1, 4)}
    model = ServedModel("net", "1", predictors, None)
    for count in (1, 2, 4, 5, 8):
        assert len(model.run(["x"] * count, _decoded(model, count))) == count
    assert ran == [1, 4, 4, 8, 8]
    assert model.max_batch == 8


def test_fixed_batch_of_a_model_is_kept(write_model, tmp_path):
    model = open_model("m", "1", write_model(tmp_path / "fixed.onnx", batch=3), ServerOptions(device="cpu"))
    assert model.max_batch == 3


def test_drained_model_takes_no_more_and_waits_for_what_has_begun(net):
    model = open_model("net", "1", net, ServerOptions(device="cpu"))
    assert model.begin()
    drained = []
    thread = threading.Thread(target=lambda: drained.append(model.drain(20)))
    thread.start()
    assert not drained
    model.end()
    thread.join()
    assert drained == [True]
    assert not model.begin()
    model = open_model("net", "1", net, ServerOptions(device="cpu"))
    model.begin()
    assert not model.drain(0.01)


def test_sources_are_named_after_their_files(tmp_path, net):
    (tmp_path / "animals" / "3").mkdir(parents=True)
    (tmp_path / "animals" / "3" / "model.onnx").touch()
    (tmp_path / "odd=name.onnx").touch()
    sources = as_sources([net, f"{net}=other", tmp_path / "animals", f"{tmp_path / 'odd=name.onnx'}=odd"])
    assert [source.name for source in sources] == ["net", "other", "animals", "odd"]
    assert list(sources[2].versions()) == ["3"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "é", "-x", "a" * 200])
def test_names_that_no_path_can_have_are_refused(net, name):
    with pytest.raises(UsageError, match="name"):
        as_sources({name: net})


def test_file_is_loaded_when_two_looks_see_it_the_same(write_net, tmp_path):
    path, loaded = write_net(tmp_path / "net.onnx"), []

    def load(name, version, path):
        loaded.append(path.stat().st_size)
        return open_model(name, version, path, ServerOptions(device="cpu"))

    registry = Registry()
    registry.put(load("net", "1", path))
    watcher = Watcher(as_sources(path), registry, load, seconds=1000)
    whole = write_net(tmp_path / "new.onnx", seed=1).read_bytes()
    for part in (whole[:100], whole[:200], whole, whole):
        path.write_bytes(part)
        watcher.look_again()
        os.utime(path, (1, len(part)))  # the clock of a file system is too coarse for this test
    assert loaded[1:] == []
    watcher.look_again()
    watcher.look_again()
    assert loaded[1:] == [len(whole)]
    watcher.close()


def test_newest_version_is_by_number(net):
    registry = Registry()
    for version in ("9", "10", "2"):
        registry.put(open_model("net", version, net, ServerOptions(device="cpu")))
    assert registry.find().version == "10"
    assert registry.remove("net", "10").version == "10"
    assert registry.find("net").version == "9"
    registry.remove("net", "9")
    assert registry.remove("net", "2") is None
    assert registry.find("net").version == "2"
