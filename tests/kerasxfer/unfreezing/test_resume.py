"""A run that is killed ends as one that is not."""

import keras
import numpy as np
import pytest
from PIL import Image

from kerasxfer import ImageFolder, Stage
from kerasxfer.callbacks import ProgressiveUnfreezing, SetEpoch

EPOCHS = 7
STAGES = [
    Stage(epochs=2, learning_rate=1e-2),
    Stage("block3", patience=1, min_delta=10, warmup=1.5, learning_rate="0.5x", restore_best=True),
    Stage("block1", epochs=2, learning_rate=1e-3, layer_decay=0.5, batch_norm="train"),
    Stage(freeze="block1", learning_rate=2e-3),
]


class KilledError(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends the process, as it were, in the middle of an epoch."""

    def __init__(self, epoch, batch=1):
        super().__init__()
        self.kill_at, self.batch, self.epoch = epoch, batch, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.kill_at and batch == self.batch:
            raise KilledError


class Tell(keras.callbacks.Callback):
    """What `SetEpoch` does for an `ImageFolder`."""

    def __init__(self, dataset):
        super().__init__()
        self.dataset = dataset

    def on_epoch_begin(self, epoch, logs=None):
        self.dataset.set_epoch(epoch)


@pytest.fixture
def run(build, ordered, images):
    def run(*others, backup=None, first=True, stages=STAGES, optimizer=None, **arguments):
        model = build(optimizer or keras.optimizers.AdamW(1e-2, weight_decay=0.01))
        unfreezing = ProgressiveUnfreezing(stages, verbose=0)
        both = [unfreezing] if backup is None else [unfreezing, backup] if first else [backup, unfreezing]
        callbacks = [Tell(ordered), *both, *others]
        arguments = {"validation_data": images, **arguments}
        history = model.fit(ordered, epochs=EPOCHS, verbose=0, shuffle=False, callbacks=callbacks, **arguments)
        return model, history.history

    return run


def tail_equal(whole, part):
    return all(whole[key][-len(values) :] == values for key, values in part.items())


EACH_KILL = [
    pytest.param(epoch, first, marks=[] if (epoch, first) in ((3, False),) else [pytest.mark.slow])
    for epoch in range(1, EPOCHS)
    for first in (True, False)
]


@pytest.mark.parametrize(("epoch", "first"), EACH_KILL)
def test_a_killed_run_ends_as_the_whole_one(run, weights, same, tmp_path, epoch, first):
    whole, history = run()
    with pytest.raises(KilledError):
        run(Kill(epoch), backup=keras.callbacks.BackupAndRestore(tmp_path / "backup"), first=first)
    keras.backend.clear_session()
    resumed, rest = run(backup=keras.callbacks.BackupAndRestore(tmp_path / "backup"), first=first)
    assert history["stage"] == [1, 1, 2, 2, 3, 3, 4]
    assert len(rest["stage"]) == EPOCHS - epoch
    assert tail_equal(history, rest)
    assert same(weights(whole), weights(resumed))


def test_a_killed_run_on_a_seeded_folder_ends_as_the_whole_one(build, images, weights, same, tmp_path):
    for number, (pixels, label) in enumerate(zip(*images, strict=True)):
        path = tmp_path / f"images/{int(label[0])}/{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 40 + 128).clip(0, 255).astype("uint8")).save(path)

    def run(*others):
        folder = ImageFolder(tmp_path / "images", (8, 8), batch_size=8, seed=3)
        model = build(keras.optimizers.Adam(1e-3))
        callbacks = [SetEpoch(folder), ProgressiveUnfreezing(STAGES, verbose=0), *others]
        history = model.fit(
            folder, validation_data=folder, epochs=EPOCHS, verbose=0, shuffle=False, callbacks=callbacks
        )
        return model, history.history

    whole, history = run()
    with pytest.raises(KilledError):
        run(keras.callbacks.BackupAndRestore(tmp_path / "backup"), Kill(4))
    resumed, rest = run(keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    assert len(rest["stage"]) == EPOCHS - 4
    assert tail_equal(history, rest)
    assert same(weights(whole), weights(resumed))


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_a_plateau_of_a_training_metric_survives_without_validation(run, weights, same, tmp_path, first):
    stages = [Stage(patience=1, min_delta=10, monitor="loss"), Stage("block3")]
    whole, history = run(stages=stages, validation_data=None)
    for epoch in (1, 2):
        backup = tmp_path / str(epoch)
        saver = keras.callbacks.BackupAndRestore(backup)
        with pytest.raises(KilledError):
            run(Kill(epoch), backup=saver, first=first, stages=stages, validation_data=None)
        saver = keras.callbacks.BackupAndRestore(backup)
        resumed, rest = run(backup=saver, first=first, stages=stages, validation_data=None)
        assert tail_equal(history, rest)
        assert same(weights(whole), weights(resumed))


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_a_backup_in_the_middle_of_an_epoch_goes_on_in_the_same_stage(run, tmp_path, first):
    with pytest.raises(KilledError):
        run(Kill(3, batch=2), backup=keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=2), first=first)
    _, rest = run(backup=keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=2), first=first)
    assert rest["stage"][:2] == [2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2)),
        lambda: keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9),
        lambda: keras.optimizers.Nadam(1e-2, gradient_accumulation_steps=2),
    ],
)
def test_other_optimizers_resume_too(run, weights, same, tmp_path, optimizer):
    whole, history = run(optimizer=optimizer())
    with pytest.raises(KilledError):
        run(Kill(5), backup=keras.callbacks.BackupAndRestore(tmp_path / "backup"), optimizer=optimizer())
    resumed, rest = run(backup=keras.callbacks.BackupAndRestore(tmp_path / "backup"), optimizer=optimizer())
    assert tail_equal(history, rest)
    assert same(weights(whole), weights(resumed))


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True])
def test_a_keras_file_of_a_middle_stage_goes_on_with_its_moments(
    build, ordered, images, weights, same, tmp_path, nested
):
    stages = STAGES[:3]
    path = str(tmp_path / "middle_{epoch}.keras")

    def train(model, unfreezing, *others, **arguments):
        callbacks = [Tell(ordered), unfreezing, *others]
        return model.fit(
            ordered, epochs=6, verbose=0, shuffle=False, callbacks=callbacks, validation_data=images, **arguments
        )

    whole = build(keras.optimizers.Adam(1e-2), nested=nested)
    history = train(whole, ProgressiveUnfreezing(stages, verbose=0), keras.callbacks.ModelCheckpoint(path)).history
    for epoch in (2, 3, 5):
        keras.backend.clear_session()
        unfreezing = ProgressiveUnfreezing(stages, verbose=0)
        model = unfreezing.load_model(path.format(epoch=epoch))
        assert unfreezing.initial_epoch == epoch
        rest = train(model, unfreezing, initial_epoch=unfreezing.initial_epoch).history
        assert tail_equal(history, rest)
        assert [np.array_equal(a, b) for a, b in zip(whole.get_weights(), model.get_weights(), strict=True)]


def test_a_finished_model_loads_with_its_moments_in_plain_keras(build, ordered, tmp_path):
    model = build(keras.optimizers.Adam(1e-2))
    stages = [Stage(epochs=1), Stage("block3", epochs=1)]
    model.fit(ordered, epochs=2, verbose=0, callbacks=[ProgressiveUnfreezing(stages, verbose=0)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    ours, theirs = model.optimizer.variables, loaded.optimizer.variables
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))


@pytest.mark.slow
def test_without_a_checkpoint_the_epochs_say_which_stage(build, ordered):
    model = build("adam")
    stages = [Stage(epochs=2), Stage("block3", epochs=2), Stage("block2")]
    unfreezing = ProgressiveUnfreezing(stages, verbose=0)
    history = model.fit(ordered, epochs=5, initial_epoch=3, verbose=0, callbacks=[unfreezing]).history
    assert history["stage"] == [2, 3]


@pytest.mark.slow
def test_a_second_fit_goes_on(build, ordered, images):
    model = build("adam")
    unfreezing = ProgressiveUnfreezing([Stage(epochs=2), Stage("block3", patience=9), Stage("block2")], verbose=0)
    with pytest.warns(UserWarning, match="val_loss"):
        model.fit(ordered, epochs=13, verbose=0, callbacks=[unfreezing, Until(4)])
    history = model.fit(
        ordered, epochs=13, initial_epoch=4, verbose=0, validation_data=images, callbacks=[unfreezing, Until(6)]
    ).history
    assert history["stage"] == [2, 2]
    assert unfreezing.engine.state["epochs"] == 4


class Until(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.last = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch + 1 == self.last


@pytest.mark.slow
def test_a_checkpoint_of_another_schedule_is_refused(run, tmp_path):
    with pytest.raises(KilledError):
        run(Kill(3), backup=keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    other = [Stage(epochs=2), Stage("all")]
    with pytest.raises(ValueError, match="another schedule"):
        run(backup=keras.callbacks.BackupAndRestore(tmp_path / "backup"), stages=other)
