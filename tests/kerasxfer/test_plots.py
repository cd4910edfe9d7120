import math

import keras
import numpy as np
import pytest
from PIL import Image

from kerasxfer import plot_history
from kerasxfer.runs.histories import write_csv
from kerasxfer.smoothing import smooth_curve

HISTORY = {
    "loss": [0.9, 0.6, 0.5, 0.4],
    "accuracy": [0.5, 0.7, 0.8, 0.9],
    "val_loss": [0.8, 0.5, 0.6, 0.7],
    "val_accuracy": [0.6, 0.8, 0.9, 0.7],
    "stage": ["head", "head", "block5", "block5"],
    "learning_rate": [1e-3, 1e-3, 1e-5, 1e-5],
}


def lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_a_panel_for_each_metric_with_raw_points_and_smoothed_lines():
    figure = plot_history(HISTORY, factor=0.5)
    assert [axes.get_title("left") for axes in figure.axes] == ["Accuracy", "Loss"]
    for axes, name in zip(figure.axes, ("accuracy", "loss"), strict=True):
        shown = lines(axes)
        assert list(shown) == ["training", "training, smoothed", "validation", "validation, smoothed"]
        assert list(shown["validation"].get_xdata()) == [1, 2, 3, 4]
        assert list(shown["validation"].get_ydata()) == HISTORY[f"val_{name}"]
        assert list(shown["training, smoothed"].get_ydata()) == smooth_curve(HISTORY[name], 0.5)


def test_takes_the_smoothed_values_of_the_history_where_it_has_them():
    figure = plot_history({"loss": [1.0, 2.0, 3.0], "smoothed_loss": [7.0, 8.0, 9.0]})
    assert list(lines(figure.axes[0])["training, smoothed"].get_ydata()) == [7.0, 8.0, 9.0]


@pytest.mark.parametrize(("panel", "best"), [(0, "best 0.9 in epoch 3"), (1, "best 0.5 in epoch 2")])
def test_marks_the_best_validation_epoch(panel, best):
    assert best in plot_history(HISTORY).axes[panel].get_title("right")


def test_marks_stages():
    axes = plot_history(HISTORY).axes[0]
    assert [(text.get_text(), text.get_position()[0]) for text in axes.texts] == [("head", 0.5), ("block5", 2.5)]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [2.5]


def test_epochs_without_validation_are_left_out(tmp_path):
    rows = [{"epoch": 0, "loss": 3.0}, {"epoch": 1, "loss": 2.0, "val_loss": 2.5}, {"epoch": 2, "loss": math.nan}]
    write_csv(tmp_path / "history.csv", rows)
    shown = lines(plot_history(tmp_path).axes[0])
    assert list(shown["validation"].get_xdata()) == [2]
    assert list(shown["training"].get_xdata()) == [1, 2, 3]


def test_takes_what_fit_returns():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    history = model.fit(x, y, validation_data=(x, y), validation_freq=2, epochs=6, initial_epoch=2, verbose=0)
    shown = lines(plot_history(history).axes[0])
    assert list(shown["training"].get_xdata()) == [3, 4, 5, 6]
    assert list(shown["validation"].get_xdata()) == [4, 6]


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_saves_in_the_format_of_the_suffix_and_leaves_nothing_else(tmp_path, suffix, begins):
    plot_history(HISTORY, tmp_path / "new" / f"curves.{suffix}", title="VGG16")
    (file,) = (tmp_path / "new").iterdir()
    assert file.read_bytes().startswith(begins)


def test_training_and_validation_differ_in_black_and_white():
    shown = lines(plot_history(HISTORY).axes[0])
    training, validation = shown["training, smoothed"], shown["validation, smoothed"]
    greys = [
        Image.new("RGB", (1, 1), line.get_color()).convert("L").getpixel((0, 0)) for line in (training, validation)
    ]
    assert abs(greys[0] - greys[1]) > 15
    assert training.get_linewidth() < validation.get_linewidth()
    assert shown["training"].get_marker() != shown["validation"].get_marker()


def test_refuses_a_metric_that_is_not_there():
    with pytest.raises(ValueError, match=r"Received: metrics=\['auc'\]. There are: \['accuracy', 'loss'\]"):
        plot_history(HISTORY, metrics=["auc"])


def test_refuses_what_is_no_history():
    with pytest.raises(TypeError, match="`history_or_run` must be a History"):
        plot_history([1, 2])


@pytest.mark.parametrize(
    ("name", "best"),
    [("mse", "0.2 in epoch 2"), ("cosine_similarity", "0.5 in epoch 1"), ("out_mae", "0.2 in epoch 2")],
)
def test_the_best_epoch_goes_by_the_metric(name, best):
    figure = plot_history({name: [0.5, 0.2, 0.3], "out_loss": [3.0, 2.0, 1.0]})
    assert figure.axes[0].get_title("right") == f"○ best {best}"


def test_no_epoch_is_best_where_nobody_knows_which_way_is_better():
    figure = plot_history({"inverse_recall": [0.5, 0.2, 0.3]})
    assert figure.axes[0].get_title("right") == ""
