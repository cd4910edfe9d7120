"""A run that is killed, at any step: what is left is understood, and goes on to the same end."""

import csv
import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import KerasxferError
from PIL import Image

from kerasxfer.export.source import open_source
from kerasxfer.report.predictions import predict_validation
from kerasxfer.report.runs import load_runs
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.run_folder import RunFolder, RunState
from kerasxfer.runs.training import train

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes of noise, dark and light."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 100)):
        (root / name).mkdir()
        for i in range(6):
            Image.fromarray(rng.integers(low, low + 150, (32, 32, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


def config_of(data, **changes):
    settings = {"backbone": "DemoVGG", "backbone_output": "block2_pool", "image_size": (32, 32), "batch_size": 4}
    return TrainConfig(str(data), **settings | {"validation": str(data), "dropout": 0.5, "epochs": 2} | changes)


def ended_by_a_plateau(data):
    """Ends after the second of five epochs, with the weights of the first one, which was the best."""
    stage = {"monitor": "val_loss", "patience": 1, "min_delta": 100.0, "restore_best": True}
    return config_of(data, schedule=[stage], epochs=5)


def kept_from_an_earlier_stage(data):
    """The second stage makes it worse, and patience ends it: what is kept is an epoch of the first one."""
    spoiling = {"unfreeze": "block2", "epochs": 3, "learning_rate": 100.0, "patience": 1}
    return config_of(data, schedule=[{"epochs": 1}, spoiling], epochs=4)


def stopped_by_patience(data):
    """The head alone; only the first epoch trains well, and the last one is not run."""
    return config_of(data, optimizer="sgd", learning_rate=1e4, epochs=4, patience=1)


CONFIGURATIONS = [stopped_by_patience, ended_by_a_plateau, kept_from_an_earlier_stage]


class Snapshots:
    """Copies of a run folder, each as a kill before one of its changes would leave it; one of those that are alike."""

    def __init__(self, run, kept):
        self.run = run
        self.kept = kept
        self.seen = []
        self.folders = []

    def take(self):
        files = RunFolder(self.run)
        which = (files.record, files.history, files.checkpoint, files.model)
        state = [path.read_bytes() if path.is_file() else None for path in which]
        if state not in self.seen:
            self.seen.append(state)
            self.folders.append(self.kept / str(len(self.folders)))
            # The lock on the file ends with the process.
            shutil.copytree(self.run, self.folders[-1], ignore=shutil.ignore_patterns(".lock"))


@pytest.fixture(scope="module", params=CONFIGURATIONS, ids=lambda make: make.__name__)
def interrupted(request, data, tmp_path_factory):
    """A whole run, its configuration, and what a kill before every change in its folder leaves."""
    root = tmp_path_factory.mktemp("interrupted")
    config, snapshots = request.param(data), Snapshots(root / "run", root / "kept")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "unlink"):
            change = getattr(Path, name)

            def watched(path, *args, change=change, **kwargs):
                if path.parent == snapshots.run and path.exists():
                    snapshots.take()
                return change(path, *args, **kwargs)

            patch.setattr(Path, name, watched)
        keras.backend.clear_session()
        train(config, snapshots.run)
    return snapshots.run, config, snapshots.folders


def history(run):
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


def final_weights(run):
    return keras.saving.load_model(run / "model.keras", compile=False).get_weights()


def assert_same_end(run, whole):
    assert history(run) == history(whole)
    for weights, expected in zip(final_weights(run), final_weights(whole), strict=True):
        np.testing.assert_array_equal(weights, expected)
    assert RunFolder(run).read().result == pytest.approx(RunFolder(whole).read().result)
    assert RunFolder(run).read().kept_epoch == RunFolder(whole).read().kept_epoch is not None
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}


def begun(left, tmp_path):
    """A run that was killed after its first epoch."""
    kept = next(folder for folder in left if RunFolder(folder).checkpoint.is_file())
    return RunFolder(shutil.copytree(kept, tmp_path / "run"))


def test_a_run_goes_on_to_the_same_end_from_a_kill_at_any_step(interrupted, tmp_path):
    whole, config, left = interrupted
    states = [RunFolder(folder).state for folder in left]
    assert states == sorted(states, key=[None, *RunState].index)  # it never goes back
    assert set(states) == {None, *RunState}
    for number, (folder, state) in enumerate(zip(left, states, strict=True)):
        run = shutil.copytree(folder, tmp_path / str(number))
        if state is RunState.finished:
            with pytest.raises(KerasxferError, match="is finished"):
                train(config, run, resume=True)
        else:
            train(config, run, resume=True)
            assert_same_end(run, whole)


def test_what_a_kill_leaves_can_be_reported_and_exported(interrupted, tmp_path):
    _, _, left = interrupted
    for number, folder in enumerate(left):
        run = RunFolder(folder)
        if run.history.is_file():
            (shown,) = load_runs([folder])
            assert (predict_validation(shown) is None) == (run.state is RunState.begun)
        else:
            with pytest.raises(KerasxferError, match=r"must be a run folder|No history to read"):
                load_runs([folder])
        if run.model.is_file():
            workspace = tmp_path / str(number)
            workspace.mkdir()
            assert open_source(folder, workspace).class_names == ("dark", "light")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_model_file_that_was_cut_short_is_no_model(interrupted, tmp_path, share):
    whole, config, _ = interrupted
    run = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    file = run.model.read_bytes()
    run.model.write_bytes(file[: int(share * len(file))])
    assert run.state is RunState.begun
    with pytest.raises(KerasxferError, match="holds a run"):
        train(config, run.path)


def test_a_damaged_checkpoint_is_named_with_the_way_out(interrupted, tmp_path):
    _, config, left = interrupted
    run = begun(left, tmp_path)
    run.checkpoint.write_bytes(run.checkpoint.read_bytes()[:1000])
    with pytest.raises(KerasxferError, match=r"checkpoint.weights.h5` is damaged(.|\n)*`--overwrite`"):
        train(config, run.path, resume=True)
    assert run.state is RunState.begun


def test_a_run_does_not_go_on_with_other_images(interrupted, data, tmp_path):
    _, config, left = interrupted
    run = begun(left, tmp_path)
    others = shutil.copytree(data, tmp_path / "others")
    shutil.copy(others / "dark" / "0.png", others / "dark" / "new.png")
    config = dataclasses.replace(config, data=str(others))
    dataclasses.replace(run.read(), config=config).write(run.record)
    with pytest.raises(KerasxferError, match=r"takes the images.*13.*12"):
        train(config, run.path, resume=True)
