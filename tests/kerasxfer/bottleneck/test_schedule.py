"""A schedule: every stage from its own boundary, one pass for all, the same training as without the cache."""

from functools import partial

import keras
import numpy as np
import pytest

import kerasxfer
from kerasxfer import Stage
from kerasxfer.callbacks import ProgressiveUnfreezing

HEAD = {"dense"}


class Record(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append([keras.ops.convert_to_numpy(variable) for variable in self.model.variables])


def stages(**last):
    return [
        Stage(epochs=2, learning_rate=1e-3),
        Stage("block3", epochs=1, learning_rate=1e-3),
        Stage("block2", learning_rate=1e-3, **last),
    ]


def test_a_schedule_is_that_of_fit(make_model, make_folder, run_fit, assert_same, tmp_path):
    runs = []
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    for cached in (False, True):
        model, record = make_model(trainable=HEAD), Record()
        fit = partial(cache.fit, model) if cached else model.fit
        callbacks = [ProgressiveUnfreezing(stages(), verbose=0), record]
        validation = make_folder(shuffle=False)
        losses, history = run_fit(
            fit, make_folder(), validation_data=validation, epochs=4, shuffle=False, callbacks=callbacks
        )  # fmt: skip
        runs.append((losses, history, record.weights))
    (losses, history, weights), (cached_losses, cached_history, cached_weights) = runs
    assert_same(cached_losses, losses)
    assert cached_history.keys() == history.keys()
    for name in history:
        assert_same(cached_history[name], history[name])
    for epoch, cached_epoch in zip(weights, cached_weights, strict=True):
        for theirs, ours in zip(epoch, cached_epoch, strict=True):
            assert_same(ours, theirs)
    assert sorted(row["boundary"] for row in cache.list()) == ["block1_pool", "block2_pool", "flatten"]
    assert {row["rows"] for row in cache.list()} == {22}


def test_one_pass_taps_all_boundaries(make_model, make_folder, tmp_path):
    folder, loads = make_folder(), []
    load = folder.load
    folder.load = lambda rows, epoch=None: loads.extend(rows) or load(rows, epoch)
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    plan = cache.build(make_model(trainable=HEAD), folder, stages())
    assert sorted(loads) == list(range(22))
    assert [stage.boundary.name for stage in plan.stages] == ["flatten", "block2_pool", "block1_pool"]
    loads.clear()
    cache.fit(
        make_model(trainable=HEAD), folder, epochs=4, verbose=0, callbacks=[ProgressiveUnfreezing(stages(), verbose=0)]
    )
    # One image shows its shape to the fit, and four are computed again at the start of each stage.
    assert len(loads) == 1 + 3 * 4


def test_layers_that_were_trained_and_frozen_again_miss(make_model, arrays, tmp_path):
    x, y = arrays
    schedule = [
        Stage(epochs=1, learning_rate=1e-2),
        Stage("block3", epochs=1, learning_rate=1e-2),
        Stage(freeze="block3", learning_rate=1e-2),
    ]
    models, cache = [], kerasxfer.BottleneckCache(tmp_path, verbose=0)
    for cached in (False, True):
        model = make_model(trainable=HEAD, dropout=0.0)
        fit = partial(cache.fit, model) if cached else model.fit
        fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=[ProgressiveUnfreezing(schedule, verbose=0)])
        models.append(model)
    for theirs, ours in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    boundaries = [row["boundary"] for row in cache.list()]
    assert boundaries.count("drop") == 2, "the features of the untrained and of the trained block3"


def test_a_callback_of_ones_own_may_unfreeze(make_model, arrays, tmp_path):
    x, y = arrays

    class Unfreeze(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.get_layer("block3_conv").trainable = False
                self.model.make_train_function(force=True)

    class Boundary(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            frozen.append(not self.model.get_layer("block3_conv").trainable)

    frozen = []
    model = make_model(dropout=0.0, optimizer=keras.optimizers.SGD(0.1))
    cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
    if keras.backend.backend() == "jax":
        pytest.skip("JAX loses the weights when variables leave training without ProgressiveUnfreezing")
    before = model.get_layer("block3_conv").get_weights()[0]
    cache.fit(model, x, y, epochs=2, batch_size=32, verbose=0, callbacks=[Unfreeze(), Boundary()])
    assert frozen == [False, True]
    assert not np.array_equal(before, model.get_layer("block3_conv").get_weights()[0])


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 8

    def __getitem__(self, k):
        return self.x[8 * k : 8 * k + 8], self.y[8 * k : 8 * k + 8]


def test_a_stage_without_frozen_layers_trains_on_images(make_model, arrays, run_fit, assert_same, tmp_path):
    data = Batches(*arrays)
    runs, cache = [], kerasxfer.BottleneckCache(tmp_path, verbose=0)
    for cached in (False, True):
        model = make_model(trainable=HEAD)
        fit = partial(cache.fit, model) if cached else model.fit
        schedule = [Stage(epochs=1, learning_rate=1e-3), Stage("all", learning_rate=1e-4)]
        runs.append(run_fit(fit, data, epochs=2, shuffle=False, callbacks=[ProgressiveUnfreezing(schedule, verbose=0)]))
    assert_same(runs[1][0], runs[0][0])


def test_plan_says_what_and_why(make_model, arrays, tmp_path, capsys):
    x, _ = arrays
    plan = kerasxfer.BottleneckCache(tmp_path).plan(make_model(trainable=HEAD), x, stages())
    assert [row["boundary"] for row in plan.rows] == ["flatten", "block2_pool", "block1_pool"]
    assert [row["KB/picture"] for row in plan.rows] == [0.1, 0.5, 1.5]
    gains = [stage.gain for stage in plan.stages]
    assert gains == sorted(gains, reverse=True)
    assert "Computing the features takes" in capsys.readouterr().out
    assert not list(tmp_path.iterdir()), "a plan writes nothing"


def test_budget_moves_the_boundary_or_gives_up(make_model, arrays, tmp_path):
    x, _ = arrays
    model = make_model(trainable={"dense", "block3_conv"})

    def decisions(budget, stages=None):
        plan = kerasxfer.BottleneckCache(tmp_path, budget=budget, verbose=0).plan(model, x, stages)
        return [(stage.decision, stage.boundary.name) for stage in plan.stages]

    assert decisions("1MB") == [("cache", "block2_pool")]
    assert decisions("1kB") == [("don't cache", "block2_pool")]
    both = decisions(32 * 1536, [Stage(epochs=1), Stage("block2", epochs=1)])
    assert both == [("cache", "flatten"), ("don't cache", "block1_pool")]
    with pytest.raises(ValueError, match=r"number and one of B, kB, MB, GB, TB.*Received: 'much'"):
        kerasxfer.BottleneckCache(tmp_path, budget="much")
