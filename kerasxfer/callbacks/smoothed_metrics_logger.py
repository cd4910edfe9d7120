import copy
import logging
import math
import os
import warnings
from collections.abc import Sequence
from numbers import Real
from operator import itemgetter
from pathlib import Path
from typing import Any

import keras
from kerasxfer_serving.errors import UsageError

from kerasxfer.keras_internals import callbacks_of_this_fit
from kerasxfer.metric_names import direction, is_bookkeeping, single_metrics
from kerasxfer.runs.histories import HistoryFiles, Row, stage_starts, to_columns
from kerasxfer.smoothing import MovingAverage, batch_values

Logs = dict[str, Any]


class SmoothedMetricsLogger(keras.callbacks.Callback):
    """Adds exponential moving averages of the logs to the logs, so that other callbacks can act on them.

    Every `name` in the logs of an epoch gets a `smoothed_name`, which `History`, `CSVLogger` and `TensorBoard` record
    and which `EarlyStopping(monitor="smoothed_val_loss")`, `ReduceLROnPlateau`, `ModelCheckpoint` and
    `ProgressiveUnfreezing` can monitor. Their `mode="auto"` works as for the raw name.

    Put it before the callbacks that use it, ideally first in the list. An epoch without the metric (`validation_freq`
    above 1) has no smoothed value either, so it does not count towards any patience; a NaN or an infinity leaves the
    average unchanged.

    A fit resumed with `initial_epoch` or `BackupAndRestore` continues the averages of the earlier epochs. In the same
    process the callback remembers them. In a new process it computes them again from `csv` or `jsonl` (one of them is
    required), and drops their rows from the first resumed epoch on. A fit from epoch 0 starts over.

    Args:
        factor: Weight of the past, from 0 to below 1. Defaults to `0.8`.
        metrics: Names of the logs to smooth. Defaults to `None`: all numbers except the bookkeeping of other callbacks
            (stage, learning rate, number of trainable parameters).
        prefix: Prefix of smoothed names. Defaults to `"smoothed_"`.
        debias: Whether to start the average from zero with Adam's bias correction, instead of from the first point.
            Defaults to `False`.
        per_batch: Whether to average training metrics over batches instead of epochs. Keras logs running means since
            the start of the epoch; for the loss and every `keras.metrics.Mean`, each batch's own value is recovered
            from them (as if a smaller last batch were full), and other metrics are taken as logged. Batches are added
            at the end of the epoch, in order, so no step waits for the device. Defaults to `False`.
        csv: Path of a CSV file with one row per epoch: raw and smoothed logs, including those that later callbacks add.
            Defaults to `None`.
        jsonl: Path of the same as JSON Lines; with `per_batch`, also one line per batch. Defaults to `None`.
        plot: Path of a plot of the curves (`.png` or `.svg`), redrawn after each epoch. Defaults to `None`.
        verbose: 1 prints the smoothed values of each epoch and each stage as it begins. Defaults to `0`.

    Raises:
        ValueError: `factor` is out of range; or, when training starts, a callback that monitors a smoothed value comes
            before this one.

    Example:

    ```python
    model.fit(
        train,
        validation_data=validation,
        epochs=30,
        callbacks=[
            kerasxfer.callbacks.SmoothedMetricsLogger(factor=0.8, csv="history.csv", plot="curves.png"),
            keras.callbacks.EarlyStopping(monitor="smoothed_val_loss", patience=5),
        ],
    )
    ```

    Source: `smooth_curve` in F. Chollet, *Deep Learning with Python* (2017), section 5.3; for `debias`, Kingma and Ba,
    [Adam](https://arxiv.org/abs/1412.6980), section 3.
    """

    # Keras waits for the device in every step for callbacks with batch hooks, unless they carry this flag.
    async_safe = True

    def __init__(
        self,
        factor: float = 0.8,
        metrics: Sequence[str] | None = None,
        prefix: str = "smoothed_",
        debias: bool = False,
        per_batch: bool = False,
        csv: str | os.PathLike[str] | None = None,
        jsonl: str | os.PathLike[str] | None = None,
        plot: str | os.PathLike[str] | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        MovingAverage(factor, debias)  # refuses a wrong factor now, not in the first epoch
        if not prefix:
            raise UsageError("`prefix` must not be empty: the raw logs would be overwritten. Received: prefix=''")
        if isinstance(metrics, str):
            raise UsageError(f"`metrics` must be a list of names. Received: metrics={metrics!r}")
        self.factor = factor
        self.metrics = None if metrics is None else list(metrics)
        self.prefix = prefix
        self.debias = debias
        self.per_batch = per_batch
        self.plot = None if plot is None else Path(plot)
        self.verbose = verbose
        self._files = HistoryFiles(csv, jsonl)
        self._rows: list[Row] = []
        self._averages: dict[str, MovingAverage] = {}
        self._averages_after: dict[int, dict[str, MovingAverage]] = {}
        self._batches: list[tuple[int, Logs]] = []
        self._live_logs: Logs | None = None
        self._followers: list[Any] = []
        self._begun = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._begun = False
        self._live_logs = None
        callbacks = callbacks_of_this_fit()
        followed = [(c, name) for c in callbacks for name in monitored_names(c) if name.startswith(self.prefix)]
        for callback, name in followed:
            if callbacks.index(callback) < callbacks.index(self):
                raise UsageError(
                    "`SmoothedMetricsLogger` must come before the callbacks that use its values; put it first in "
                    f"`callbacks`. Received: {type(callback).__name__}(monitor={name!r}) before it"
                )
        self._followers = [callback for callback, _ in followed]

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._batches = []
        if self._begun:
            self.collect_late_logs()
        else:
            self._begun = True
            self._continue_from(epoch)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        # Keras may call this from several threads and out of order, so it only takes note.
        if self.per_batch and logs:
            self._batches.append((batch, logs))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = {} if logs is None else logs
        names = self._smoothed_names(logs)
        self._warn_of_missing(logs)
        by_batch, batch_rows = self._fold_batches(epoch)
        for name in names:
            average = self._average(name)
            smoothed = average.value if name in by_batch else average.update(logs[name])
            if smoothed is not None:
                logs[self.prefix + name] = smoothed
        self._averages_after[epoch] = copy.deepcopy(self._averages)
        self._tell_directions()
        self._rows.append({"epoch": epoch, **logs})
        self._live_logs = logs
        self._files.write(self._rows, batch_rows)
        if self.verbose:
            shown = (f"{name} {logs[self.prefix + name]:.4f}" for name in names if self.prefix + name in logs)
            _print(f"Epoch {epoch + 1}: smoothed {', '.join(shown)}")

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.collect_late_logs()

    def _continue_from(self, epoch: int) -> None:
        """Forget `epoch` and what comes after it; know what came before."""
        if epoch and not self._rows:
            self._read_back()
        self._rows = [row for row in self._rows if row["epoch"] < epoch]
        self._averages_after = {e: averages for e, averages in self._averages_after.items() if e < epoch}
        last = max(self._averages_after, default=None)
        self._averages = {} if last is None else copy.deepcopy(self._averages_after[last])
        self._files.keep_before(epoch)
        if epoch and not self._rows:
            warnings.warn(
                f"Training goes on at epoch {epoch + 1} and the epochs before it are not known: smoothing starts anew. "
                "Pass `csv` or `jsonl` to carry the averages from one process to the next.",
                stacklevel=2,
            )

    def _read_back(self) -> None:
        """Compute the averages of an earlier process again from its files."""
        by_batch: set[str] = set()
        self._averages = {}
        for row in self._files.read():
            raw = {name: row[name] for name in self._smoothed_names(row)}
            if "batch" in row:
                by_batch |= raw.keys()
            for name, value in raw.items():
                if "batch" in row or name not in by_batch:
                    self._average(name).update(value)
            if "batch" not in row:
                self._rows.append(row)
                self._averages_after[row["epoch"]] = copy.deepcopy(self._averages)
        if self.per_batch and self._rows and not by_batch:
            warnings.warn(
                "`csv` has no batches: with `per_batch`, pass `jsonl` for averages that go on exactly.", stacklevel=2
            )

    def _fold_batches(self, epoch: int) -> tuple[set[str], list[Row]]:
        """Smooth the batches of an epoch in their order; the names, and a row for each batch if a file wants them."""
        if not self._batches:
            return set(), []
        not_means = tuple(m.name for m in single_metrics(self.model.metrics) if not isinstance(m, keras.metrics.Mean))
        batches = sorted(self._batches, key=itemgetter(0))
        numbers = [number for number, _ in batches]
        columns: dict[str, list[Any]] = {}
        for name in self._smoothed_names(batches[-1][1]):
            logged = [logs.get(name, math.nan) for _, logs in batches]
            values = logged if name.endswith(not_means) else batch_values(logged, [n + 1 for n in numbers])
            update = self._average(name).update
            columns |= {name: values, self.prefix + name: [update(value) for value in values]}
        if self._files.jsonl is None:
            return set(columns), []
        points = zip(numbers, *columns.values(), strict=True)
        return set(columns), [dict(zip(("epoch", "batch", *columns), (epoch, *point), strict=True)) for point in points]

    def _average(self, name: str) -> MovingAverage:
        return self._averages.setdefault(name, MovingAverage(self.factor, self.debias))

    def _smoothed_names(self, logs: Logs) -> list[str]:
        numbers = [n for n, value in logs.items() if isinstance(value, Real) and not n.startswith(self.prefix)]
        if self.metrics is not None:
            return [name for name in numbers if name in self.metrics]
        validated = {name.removeprefix("val_") for name in numbers if name.startswith("val_")}
        return [name for name in numbers if not is_bookkeeping(name, validated)]

    def _warn_of_missing(self, logs: Logs) -> None:
        known = {*logs, *self._averages}
        # Validation may simply not have run yet.
        missing = [name for name in self.metrics or () if name not in known and not name.startswith("val_")]
        if missing:
            warnings.warn(
                f"`metrics` must name logs of this fit. Received: {missing}. There are: {sorted(logs)}", stacklevel=2
            )

    def _tell_directions(self) -> None:
        """Settle `mode="auto"` of the callbacks that follow smoothed values: Keras knows the raw names only."""
        for callback in self._followers:
            if getattr(callback, "mode", None) == "auto":
                for name in monitored_names(callback):
                    callback.mode = direction(name.removeprefix(self.prefix), self.model) or "auto"
        self._followers = []  # once is enough, and on JAX each look at `self.model` costs a synchronisation

    def collect_late_logs(self) -> None:
        """Complete the last row by what callbacks further down have added to the same logs since, and draw it."""
        if self._live_logs is None:
            return
        row = {**self._rows[-1], **self._live_logs}
        if row.keys() != self._rows[-1].keys():
            self._rows[-1] = row
            self._files.write(self._rows, [])
        if self.plot is not None:
            from kerasxfer.plots import plot_history  # only who wants an image pays for matplotlib's import

            plot_history(to_columns(self._rows), self.plot, factor=self.factor, prefix=self.prefix)
        starts = [label for i, label in stage_starts(to_columns(self._rows)) if i == len(self._rows) - 1]
        if self.verbose and starts:
            _print(f"Epoch {row['epoch'] + 1}: first epoch of `{starts[0]}`")
        self._live_logs = None


def monitored_names(callback: keras.callbacks.Callback) -> list[str]:
    """The logs that a callback follows: its `monitor`, or `monitors` where there are several."""
    names = [getattr(callback, "monitor", None), *(getattr(callback, "monitors", None) or ())]
    return [name for name in names if isinstance(name, str)]


def _print(message: str) -> None:
    if keras.config.is_interactive_logging_enabled():
        print(message)
    else:
        logging.getLogger("kerasxfer").info(message)
