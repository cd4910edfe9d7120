"""`cache.fit` is `model.fit`: losses, weights, history, callbacks."""

import itertools
from functools import partial

import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import UsageError

import kerasxfer
from kerasxfer.bottleneck import routing
from kerasxfer.bottleneck.errors import BoundaryError, CacheError


def weights(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


@pytest.mark.parametrize("nested", [False, True])
def test_two_epochs_on_a_seeded_folder_are_those_of_fit(
    make_model, make_folder, run_fit, assert_same, tmp_path, nested
):
    expected, model = make_model(nested), make_model(nested)
    validation = make_folder(shuffle=False)
    losses, history = run_fit(expected.fit, make_folder(), validation_data=validation, epochs=2, shuffle=False)
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    cached_losses, cached_history = run_fit(
        cache.fit, model, make_folder(), validation_data=validation, epochs=2, shuffle=False
    )
    assert len(losses) == 12
    assert losses[0] != losses[1]
    assert_same(cached_losses, losses)
    assert cached_history.keys() == history.keys()
    for name in history:
        assert_same(cached_history[name], history[name])
    for ours, theirs in zip(weights(model), weights(expected), strict=True):
        assert_same(ours, theirs)
    assert [row["boundary"] for row in cache.list()] == ["block2_pool"]
    assert cache.list()[0]["rows"] == 22


def test_arrays_with_weights_and_metrics(make_model, arrays, run_fit, assert_same, tmp_path):
    x, y = arrays
    settings = {"batch_size": 5, "epochs": 3, "initial_epoch": 1, "shuffle": False, "validation_split": 0.25}
    settings |= {"validation_freq": 2, "sample_weight": np.linspace(0.5, 2, len(x), dtype="float32")}
    expected, model = make_model(weighted_metrics=["accuracy"]), make_model(weighted_metrics=["accuracy"])
    losses, history = run_fit(expected.fit, x, y, **settings)
    cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
    cached_losses, cached_history = run_fit(cache.fit, model, x, y, **settings)
    assert_same(cached_losses, losses)
    for name in history:
        assert_same(cached_history[name], history[name])


def test_class_weight(make_model, make_folder, run_fit, assert_same, tmp_path):
    class_weight = {0: 3.0, 1: 1.0, 2: 0.2}
    losses, _ = run_fit(make_model().fit, make_folder(), class_weight=class_weight, shuffle=False)
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    cached, _ = run_fit(cache.fit, make_model(), make_folder(), class_weight=class_weight, shuffle=False)
    assert_same(cached, losses)


def test_callbacks_see_the_whole_model(make_model, arrays, tmp_path):
    x, y = arrays
    model = make_model()
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model is model)
            self.probabilities = self.model.predict(x[:4], verbose=0)
            self.loss = self.model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
            self.model.save(tmp_path / "whole.keras")

        def on_train_batch_end(self, batch, logs=None):
            seen.append(all(np.isfinite(w).all() for w in self.model.get_weights()))

    look = Look()
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    cache.fit(model, x, y, epochs=2, verbose=0, callbacks=[look])
    assert all(seen)
    np.testing.assert_allclose(model.predict(x[:4], verbose=0), look.probabilities, rtol=1e-5, atol=1e-6)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["loss"] == pytest.approx(look.loss, rel=1e-5)
    saved = keras.saving.load_model(tmp_path / "whole.keras")
    np.testing.assert_allclose(saved.predict(x[:4], verbose=0), look.probabilities, rtol=1e-5, atol=1e-6)
    assert type(model).call is not model.__dict__.get("call")
    assert "call" not in vars(model)


def test_early_stopping_and_rates(make_model, arrays, tmp_path):
    x, y = arrays
    stop = keras.callbacks.EarlyStopping("loss", min_delta=100, patience=1, restore_best_weights=True)
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3 / (epoch + 1))
    cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
    history = cache.fit(make_model(), x, y, epochs=9, verbose=0, callbacks=[stop, rate])
    assert len(history.history["loss"]) == 2
    assert history.history["learning_rate"] == pytest.approx([1e-3, 5e-4])


def test_backup_and_restore_goes_on_where_it_was(make_model, make_folder, run_fit, assert_same, tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    whole = make_model()
    run_fit(cache.fit, whole, make_folder(), epochs=3, shuffle=False)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        cache.fit(
            make_model(), make_folder(), epochs=3, shuffle=False, verbose=0, callbacks=[backup, Interrupt()]
        )  # fmt: skip
    model, folder = make_model(), make_folder()
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    callbacks = [backup, kerasxfer.callbacks.SetEpoch(folder)]
    history = cache.fit(model, folder, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
    assert len(history.history["loss"]) == 1
    # Dropout's generator is not in the checkpoint of all backends; the kernels of frozen layers are.
    assert_same(weights(model)[0], weights(whole)[0])


@pytest.mark.parametrize("kind", ["PyDataset", "framework"])
def test_any_data_set_keeps_its_labels(make_model, arrays, tmp_path, kind):
    x, y = arrays
    expected, model = make_model(dropout=0.0), make_model(dropout=0.0)
    expected.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, k):
            return x[8 * k : 8 * k + 8], y[8 * k : 8 * k + 8]

    data = Batches() if kind == "PyDataset" else framework_data(x, y)
    kerasxfer.BottleneckCache(tmp_path, verbose=0).fit(model, data, epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(weights(model), weights(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def framework_data(x, y, shuffle=False):
    """Batches of 8 from the backend's own library; tf.data stands in on JAX."""
    if keras.backend.backend() == "torch":
        import torch

        data = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
        return torch.utils.data.DataLoader(data, batch_size=8, shuffle=shuffle)
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((x, y))
    return (data.shuffle(len(x)) if shuffle else data).batch(8)


def test_shuffled_framework_data_keeps_its_labels(make_model, arrays, tmp_path):
    x, y = arrays
    model = make_model(dropout=0.0, trainable={"dense"}, optimizer=keras.optimizers.Adam(0.1))
    cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
    cache.fit(model, framework_data(x, y, shuffle=True), epochs=12, verbose=0)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.8


def test_steps_per_epoch_go_round_the_data(make_model, arrays, tmp_path):
    x, y = arrays
    seen = []

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(batch)

    cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
    cache.fit(
        make_model(), x, y, batch_size=8, epochs=3, steps_per_epoch=3, validation_data=(x, y), validation_steps=2,
        verbose=0, callbacks=[Count()],
    )  # fmt: skip
    assert seen == [0, 1, 2] * 3


def test_steps_per_epoch_take_several_epochs_for_a_pass(make_model, make_folder, run_fit, assert_same, tmp_path):
    """Each pass has its own order and its own augmented copy."""
    settings = {"steps_per_epoch": 2, "epochs": 9, "shuffle": False}
    augmentation = kerasxfer.layers.Augmentation(horizontal_flip=True, width_shift_range=0.3)
    folder, cached_folder = make_folder(augmentation=augmentation), make_folder(augmentation=augmentation)
    losses, _ = run_fit(make_model().fit, folder, **settings)
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", copies=3, verbose=0)
    cached, _ = run_fit(cache.fit, make_model(), cached_folder, **settings)
    assert_same(cached, losses)
    assert (folder.epoch, cached_folder.epoch) == (3, 3)


def test_a_resumed_fit_takes_its_passes_from_set_epoch(make_model, make_folder, run_fit, assert_same, tmp_path):
    settings = {"steps_per_epoch": 3, "epochs": 6, "initial_epoch": 2, "shuffle": False}
    runs, cache = [], kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    for cached in (False, True):
        folder, model = make_folder(), make_model()
        fit = partial(cache.fit, model) if cached else model.fit
        losses, _ = run_fit(fit, folder, callbacks=[kerasxfer.callbacks.SetEpoch(folder)], **settings)
        runs.append((losses, folder.epoch))
    assert_same(runs[1][0], runs[0][0])
    assert runs[0][1] == runs[1][1] == 3


class Endless(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    @property
    def num_batches(self):
        return None

    def __getitem__(self, k):
        k %= 4
        return self.x[8 * k : 8 * k + 8], self.y[8 * k : 8 * k + 8]


def endless_framework_data(x, y):
    """Without an end, and without saying so: from a generator of tf.data, or PyTorch's iterable data set."""
    if keras.backend.backend() == "torch":
        import torch

        class Rows(torch.utils.data.IterableDataset):
            def __iter__(self):
                return zip(itertools.cycle(x), itertools.cycle(y))

        return torch.utils.data.DataLoader(Rows(), batch_size=8)
    import tensorflow as tf

    def batches():
        for k in itertools.cycle(range(4)):
            yield x[8 * k : 8 * k + 8], y[8 * k : 8 * k + 8]

    return tf.data.Dataset.from_generator(
        batches, output_signature=(tf.TensorSpec((None, 16, 16, 3)), tf.TensorSpec((None,), "int32"))
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("make_data", [Endless, endless_framework_data])
def test_data_without_an_end_is_read_as_far_as_the_fit_goes(make_model, arrays, run_fit, tmp_path, make_data):
    x, y = arrays
    settings = {"steps_per_epoch": 2, "epochs": 3, "validation_steps": 2, "shuffle": False}
    losses, history = run_fit(make_model().fit, make_data(x, y), validation_data=make_data(x, y), **settings)
    cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
    cached, cached_history = run_fit(
        cache.fit, make_model(), make_data(x, y), validation_data=make_data(x, y), **settings
    )
    np.testing.assert_allclose(cached, losses, rtol=1e-5)
    np.testing.assert_allclose(cached_history["val_loss"], history["val_loss"], rtol=1e-5)
    assert cache.list()[0]["rows"] == 32


def test_data_without_an_end_and_without_steps_is_refused_at_once(make_model, arrays, tmp_path):
    x, y = arrays
    with pytest.raises(CacheError, match=r"must end.*steps_per_epoch.*infinite `Endless`"):
        kerasxfer.BottleneckCache(tmp_path, verbose=0).fit(make_model(), Endless(x, y))
    with pytest.raises(CacheError, match="a generator, which is used up"):
        kerasxfer.BottleneckCache(tmp_path, verbose=0).fit(make_model(), iter([(x, y)]), steps_per_epoch=1)


def without_its_last_batch(x, y):
    """Batches of 7 of 32 shuffled rows: 4 rows are left out, others in each pass."""
    if keras.backend.backend() == "torch":
        import torch

        data = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
        return torch.utils.data.DataLoader(data, batch_size=7, shuffle=True, drop_last=True)
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(7, drop_remainder=True)


@pytest.mark.parametrize("attempt", range(3))
def test_shuffled_data_without_its_last_batch(make_model, arrays, tmp_path, attempt):
    x, y = arrays
    model = make_model(dropout=0.0, trainable={"dense"}, optimizer=keras.optimizers.Adam(0.1))
    cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
    cache.fit(model, without_its_last_batch(x, y), epochs=12, verbose=0)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.8
    assert cache.list()[0]["rows"] == 32


def test_trees_of_labels_are_split_for_validation(arrays, run_fit, tmp_path):
    x, y = arrays

    def make_model():
        keras.utils.set_random_seed(7)
        images = keras.Input((16, 16, 3))
        features = keras.layers.Conv2D(4, 3, strides=2, activation="relu", trainable=False)(images)
        flat = keras.layers.Flatten()(keras.layers.Rescaling(1e-3)(features))
        outputs = {name: keras.layers.Dense(3, activation="softmax", name=name)(flat) for name in ("a", "b")}
        model = keras.Model(images, outputs)
        loss = dict.fromkeys(outputs, "sparse_categorical_crossentropy")
        model.compile("sgd", loss, jit_compile=keras.backend.backend() == "jax")
        return model

    labels = {"a": y, "b": (y + 1) % 3}
    settings = {"validation_split": 0.25, "epochs": 2, "batch_size": 6, "shuffle": False}
    losses, history = run_fit(make_model().fit, x, labels, **settings)
    cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
    cached, cached_history = run_fit(cache.fit, make_model(), x, labels, **settings)
    np.testing.assert_allclose(cached, losses, rtol=1e-5)
    assert cached_history.keys() == history.keys()
    np.testing.assert_allclose(cached_history["val_b_loss"], history["val_b_loss"], rtol=1e-5)
    with pytest.raises(UsageError, match=r"must leave rows on both sides.*with 32 rows"):
        cache.fit(make_model(), x, labels, validation_split=0.99)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras forbids steps_per_execution on PyTorch")
def test_steps_per_execution(make_model, make_folder, run_fit, assert_same, tmp_path):
    _, history = run_fit(make_model(steps_per_execution=3).fit, make_folder(), epochs=2, shuffle=False)
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    _, cached = run_fit(cache.fit, make_model(steps_per_execution=3), make_folder(), epochs=2, shuffle=False)
    assert_same(cached["loss"], history["loss"])


def test_float16_storage_is_near(make_model, arrays, tmp_path):
    x, y = arrays
    histories = [
        kerasxfer.BottleneckCache(tmp_path, dtype=dtype, verbose=0)
        .fit(make_model(dropout=0.0), x, y, epochs=1, verbose=0)
        .history["loss"]
        for dtype in (None, "float16")
    ]
    assert histories[0] != histories[1]
    assert histories[1] == pytest.approx(histories[0], rel=1e-2)


def test_refuses_what_it_cannot_do(make_model, arrays, make_folder, tmp_path):
    x, y = arrays
    cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
    uncompiled = make_model()
    with pytest.raises(ValueError, match="must be compiled"):
        cache.fit(keras.Model(uncompiled.inputs, uncompiled.outputs), x, y)
    trained = make_model()
    for layer in trained.layers:
        layer.trainable = True
    with pytest.raises(BoundaryError, match=r"layer `block1_conv` is trained.*Freeze the layers"):
        cache.fit(trained, x, y)
    with pytest.raises(CacheError, match="a generator, which is used up"):
        cache.fit(make_model(), ((x, y) for _ in range(2)))
    with pytest.raises(CacheError, match="`copies` needs random augmentation"):
        kerasxfer.BottleneckCache(tmp_path, copies=2).fit(make_model(), x, y)


def test_images_that_change_with_each_reading_are_refused(make_model, arrays, tmp_path):
    x, y = arrays

    class Noisy(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, k):
            batch = x[8 * k : 8 * k + 8]
            return batch + np.random.normal(size=batch.shape).astype("float32"), y[8 * k : 8 * k + 8]

    with pytest.raises(CacheError, match=r"random augmentation.*copies=K.*plain images"):
        kerasxfer.BottleneckCache(tmp_path, verbose=0).fit(make_model(), Noisy(), verbose=0)


def test_evaluate_is_that_of_the_model_and_reads_no_images(make_model, make_folder, tmp_path):
    model, validation = make_model(), make_folder(shuffle=False)
    cache = kerasxfer.BottleneckCache(tmp_path / "cache", verbose=0)
    cache.fit(model, make_folder(), validation_data=validation, epochs=1, shuffle=False, verbose=0)
    expected = model.evaluate(validation, verbose=0, return_dict=True)
    loads, load = [], validation.load
    validation.load = lambda rows, epoch=None: loads.extend(rows) or load(rows, epoch)
    assert cache.evaluate(model, validation, verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-5)
    assert loads == [0, 1, 2, 3], "the images that prove the features"
    assert model.evaluate(make_folder(shuffle=False), verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-5)


def test_evaluate_without_frozen_layers_is_that_of_the_model(make_model, arrays, tmp_path):
    x, y = arrays
    model = make_model()
    for layer in model.layers:
        layer.trainable = True
    cache = kerasxfer.BottleneckCache(tmp_path, verbose=0)
    assert cache.evaluate(model, x, y, steps=2, verbose=0) == model.evaluate(x, y, steps=2, verbose=0)
    assert cache.list() == []


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has a choice")
def test_the_faster_jit_compile_is_measured_once(make_model, tmp_path, monkeypatch):
    model = make_model(jit_compile=True)
    _, suffix = kerasxfer.split_at_boundary(model)
    nothing = np.empty((0, *suffix.input_shape[1:]), "float32")
    seconds = {False: 2.0, True: 1.0}
    assert routing._training_seconds(suffix, np.zeros((4, *nothing.shape[1:]), "float32"), True) > 0
    monkeypatch.setattr(routing, "_training_seconds", lambda suffix, batch, jit: seconds[jit])
    assert routing.faster_with_jit(tmp_path, model, suffix, nothing, 8, 100) is True
    seconds[False] = 0.0
    assert routing.faster_with_jit(tmp_path, model, suffix, nothing, 8, 100) is True, "remembered"
    assert routing.faster_with_jit(tmp_path, model, suffix, nothing, 4, 100) is False
    assert routing.faster_with_jit(tmp_path, model, suffix, nothing, 2, 99) is None, "too short to be worth it"
    model.jit_compile = False
    assert routing.faster_with_jit(tmp_path, model, suffix, nothing, 2, 100) is None, "the user's word"


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is compiled on PyTorch unless asked for")
def test_a_given_jit_compile_holds_for_the_fit_alone(make_model, arrays, tmp_path):
    x, y = arrays
    seen = []
    look = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: None)
    look.on_train_batch_begin = lambda batch, logs=None: seen.append(look.model.jit_compile)
    model = make_model(jit_compile=True)
    cache = kerasxfer.BottleneckCache(tmp_path, jit_compile=False, verbose=0)
    cache.fit(model, x, y, epochs=1, verbose=0, callbacks=[look])
    assert seen == [False]
    assert model.jit_compile is True
