import keras
import numpy as np

from kerasxfer.callbacks import SetEpoch


class Dataset(keras.utils.PyDataset):
    """Two batches; notes the epoch that each was asked for in."""

    def __init__(self):
        super().__init__()
        self.epoch = None
        self.asked = []

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if self.epoch is not None:  # not while Keras looks at the shapes
            self.asked.append((self.epoch, index))
        return np.ones((1, 1), "float32"), np.ones((1, 1), "float32")


def model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_the_dataset_knows_the_epoch_before_its_first_batch():
    dataset = Dataset()

    model().fit(dataset, epochs=2, verbose=0, shuffle=False, callbacks=[SetEpoch(dataset)])

    assert dataset.asked == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_resumed_run_begins_with_its_own_epoch():
    dataset = Dataset()

    model().fit(dataset, initial_epoch=4, epochs=5, verbose=0, shuffle=False, callbacks=[SetEpoch(dataset)])

    assert dataset.asked == [(4, 0), (4, 1)]


def test_several_epochs_make_up_a_pass():
    dataset = Dataset()

    model().fit(dataset, epochs=5, steps_per_epoch=1, verbose=0, shuffle=False, callbacks=[SetEpoch(dataset)])

    # TensorFlow reads ahead, so what was asked for may belong to the pass of an epoch to come.
    assert dataset.asked[:4] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert dataset.epoch == 2
