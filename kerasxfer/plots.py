import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.files import atomic_file, writing
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kerasxfer.metric_names import direction, is_bookkeeping
from kerasxfer.runs.histories import read_history, stage_starts
from kerasxfer.smoothing import smooth_curve

History = Mapping[str, Sequence[Any]]

# Blue and vermilion of Okabe and Ito's palette differ for every kind of colour vision; in black and white print, the
# darker line with filled squares is the validation.
TRAINING: dict[str, Any] = {"color": "#0072B2", "marker": "o", "markerfacecolor": "none"}
VALIDATION: dict[str, Any] = {"color": "#D55E00", "marker": "s"}
QUIET = "#595959"


def plot_history(
    history_or_run: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    factor: float = 0.8,
    prefix: str = "smoothed_",
    title: str | None = None,
) -> Figure:
    """Plot the curves of a run: raw points, smoothed lines, stages and the best epoch.

    Args:
        history_or_run: What `fit` returned (a `keras.callbacks.History`), its `history` dictionary, a run folder, or a
            history file (`.csv`, `.jsonl`).
        path: Where to save the image, in the format of its suffix (`.png`, `.svg`, `.pdf`). Defaults to `None`: the
            figure is only returned.
        metrics: Names of the metrics, one panel each. Defaults to `None`: all metrics in the history, loss last.
        factor: Smoothing of metrics without smoothed values in the history; 0 draws the raw curves. Defaults to
            `0.8`.
        prefix: Prefix of smoothed values in the history. Defaults to `"smoothed_"`.
        title: Title above the panels. Defaults to `None`.

    Returns:
        A `matplotlib.figure.Figure`, not attached to any window or global state.

    Raises:
        ValueError: `metrics` names a metric that is not in the history.

    Example:

    >>> history = {"loss": [0.9, 0.5, 0.4], "val_loss": [0.8, 0.6, 0.7]}
    >>> figure = kerasxfer.plot_history(history, "curves.svg")
    """
    history = _as_history(history_or_run)
    names = _panel_names(history, metrics, prefix)
    with_validation = any(f"val_{name}" in history for name in names)
    figure = Figure(figsize=(0.6 + 5.2 * len(names), 4.0), dpi=120, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _draw_panel(axes, history, name, factor, prefix)
        _mark_best(axes, history, name, getattr(history_or_run, "model", None))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4 if with_validation else 2, frameon=False)
    if title:
        figure.suptitle(title, fontweight="bold")
    if path is not None:
        _save(figure, Path(path))
    return figure


def _as_history(source: Any) -> History:
    if isinstance(source, Mapping):
        return source
    if isinstance(source, str | os.PathLike):
        return read_history(source)
    history = getattr(source, "history", None)
    if isinstance(history, Mapping):
        return {"epoch": source.epoch, **history} if len(source.epoch) == len(history.get("loss", ())) else history
    raise TypeError(
        "`history_or_run` must be a History, a dictionary of lists, a run folder or a history file. "
        f"Received: {source!r} of type {type(source).__name__}"
    )


def curve_names(history: History, prefix: str = "smoothed_") -> list[str]:
    """The metrics of a history without `val_` and smoothed ones and without bookkeeping; the loss last."""
    validated = {name.removeprefix("val_") for name in history if name.startswith("val_")}
    names = [
        name
        for name in history
        if not name.startswith(prefix) and not is_bookkeeping(name, validated) and _is_numeric(history[name])
    ]
    names = list(dict.fromkeys(name.removeprefix("val_") for name in names))
    return sorted(names, key=lambda name: name.endswith("loss"))


def _panel_names(history: History, metrics: Sequence[str] | None, prefix: str) -> list[str]:
    there = curve_names(history, prefix)
    unknown = [name for name in metrics or () if name not in there]
    if unknown or not there:
        raise UsageError(f"`metrics` must be in the history. Received: metrics={metrics}. There are: {there}")
    return list(metrics) if metrics is not None else there


def _draw_panel(axes: Axes, history: History, name: str, factor: float, prefix: str) -> None:
    for key, label, style in ((name, "training", TRAINING), (f"val_{name}", "validation", VALIDATION)):
        if key in history:
            epochs, raw = _points(history, key)
            smoothed: Sequence[Any] = smooth_curve(raw, factor)
            if prefix + key in history:
                smoothed = _points(history, prefix + key)[1]
            weight = 2.6 if key.startswith("val_") else 1.8
            axes.plot(epochs, raw, linestyle="none", markersize=3.5, alpha=0.45, label=label, **style)
            smooth_epochs = epochs[len(epochs) - len(smoothed) :]
            axes.plot(smooth_epochs, smoothed, color=style["color"], linewidth=weight, label=f"{label}, smoothed")
    _mark_stages(axes, history)
    axes.set_title(name.replace("_", " ").capitalize(), loc="left", fontweight="bold", fontsize=12, pad=18)
    axes.set_xlabel("epoch", color=QUIET)
    epochs = _epochs(history)
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="#E3E3E3", linewidth=0.8)
    axes.tick_params(colors=QUIET, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#B0B0B0")
    axes.margins(y=0.08)


def _mark_stages(axes: Axes, history: History) -> None:
    epochs = _epochs(history)
    starts = stage_starts({"stage": list(history.get("stage", ()))})
    ends = [*(position for position, _ in starts[1:]), len(epochs)]
    for (position, label), end in zip(starts, ends, strict=False):
        room = max(1, int(60 * (end - position) / len(epochs)))  # a panel is about this many letters wide
        shown = label if len(label) <= room else label[: room - 1] + "…"
        first = epochs[position] - 0.5
        axes.text(first, 1.02, shown, transform=axes.get_xaxis_transform(), color=QUIET, fontsize=8, va="bottom")
        if position:
            axes.axvline(first, color=QUIET, linewidth=1, linestyle=(0, (2, 2)))


def _mark_best(axes: Axes, history: History, name: str, model: Any) -> None:
    """Ring the best epoch, where it is known which way the metric is better."""
    outputs = [each.removesuffix("_loss") for each in history if each.endswith("_loss")]
    way = direction(name, model, outputs)
    key = f"val_{name}" if f"val_{name}" in history else name
    epochs, raw = _points(history, key)
    finite = [(value, epoch) for value, epoch in zip(raw, epochs, strict=True) if math.isfinite(value)]
    if not finite or way is None:
        return
    value, epoch = min(finite) if way == "min" else max(finite, key=lambda point: (point[0], -point[1]))
    axes.plot([epoch], [value], "o", markersize=11, markerfacecolor="none", markeredgecolor="#111111")
    axes.set_title(f"○ best {value:.3g} in epoch {epoch}", loc="right", fontsize=9, color=QUIET, pad=18)


def _points(history: History, key: str) -> tuple[list[int], list[float]]:
    """Epochs, counted from 1, and values of a curve; epochs without a value are left out."""
    values = history[key]
    epochs = _epochs(history)
    if len(values) < len(epochs):  # Keras lists only the epochs that were validated
        epochs = epochs[len(epochs) // len(values) - 1 :: len(epochs) // len(values)]
    pairs = [(e, float(v)) for e, v in zip(epochs, values, strict=False) if v is not None]
    return [e for e, _ in pairs], [v for _, v in pairs]


def _epochs(history: History) -> list[int]:
    longest = max(len(values) for values in history.values())
    return [int(epoch) + 1 for epoch in history.get("epoch", range(longest))]


def _is_numeric(values: Sequence[Any]) -> bool:
    return any(isinstance(value, int | float) for value in values) and not any(isinstance(v, str) for v in values)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), atomic_file(path) as file:  # a viewer that watches the file never sees half an image
        figure.savefig(file, format=path.suffix.lstrip(".") or "png", facecolor="white")
