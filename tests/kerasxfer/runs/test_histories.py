import json
import math

import keras
import numpy as np
import pytest
from kerasxfer_serving.errors import KerasxferError

from kerasxfer.runs.histories import HistoryFiles, read_history, stage_starts, write_csv


def test_a_table_comes_back_with_every_digit(tmp_path):
    rows = [{"epoch": 0, "loss": 0.1 + 0.2}, {"epoch": 1, "loss": math.pi, "val_loss": 1e-17, "stage": "block5, top"}]
    write_csv(tmp_path / "history.csv", rows)
    assert read_history(tmp_path) == {
        "epoch": [0, 1],
        "loss": [0.1 + 0.2, math.pi],
        "val_loss": [None, 1e-17],
        "stage": [None, "block5, top"],
    }


def test_reads_what_keras_csv_logger_writes(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    logger = keras.callbacks.CSVLogger(tmp_path / "history.csv")
    fitted = model.fit(x, y, validation_data=(x, y), validation_freq=2, epochs=2, verbose=0, callbacks=[logger])
    history = read_history(tmp_path)
    assert history["epoch"] == [0, 1]
    assert history["loss"] == fitted.history["loss"]


def test_names_the_file_that_is_missing_or_empty(tmp_path):
    with pytest.raises(KerasxferError, match=r"history\.csv` does not exist"):
        read_history(tmp_path)
    (tmp_path / "history.csv").write_text("epoch,loss\n")
    with pytest.raises(KerasxferError, match="has no epochs"):
        read_history(tmp_path)


def test_jsonl_is_strict_and_its_last_row_can_gain_columns(tmp_path):
    files = HistoryFiles(None, tmp_path / "log.jsonl")
    files.keep_before(0)
    files.write([{"epoch": 0, "loss": math.nan}], [{"epoch": 0, "batch": 0, "loss": 1.0}])
    files.write([{"epoch": 0, "loss": math.nan, "stage": "head"}], [])
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        {"epoch": 0, "batch": 0, "loss": 1.0},
        {"epoch": 0, "loss": None, "stage": "head"},
    ]


def test_a_line_cut_off_by_a_crash_is_ignored(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"epoch": 0, "loss": 1.0}\n{"epoch": 1, "lo')
    assert read_history(tmp_path / "log.jsonl") == {"epoch": [0], "loss": [1.0]}


def test_stage_starts_are_where_the_label_changes():
    assert stage_starts({"stage": ["head", "head", "block5", None, "block4"]}) == [
        (0, "head"),
        (2, "block5"),
        (4, "block4"),
    ]
    assert stage_starts({"stage": [0.0, 1.0]}) == [(0, "stage 0"), (1, "stage 1")]
    assert stage_starts({"loss": [1.0]}) == []
