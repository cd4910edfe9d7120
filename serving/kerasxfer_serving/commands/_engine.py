"""What predicts for `predict`: this process, or the workers of a Ray cluster."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

from kerasxfer_serving.commands import _choices as choices
from kerasxfer_serving.commands import _model as describing
from kerasxfer_serving.commands._output import note
from kerasxfer_serving.errors import UsageError

if TYPE_CHECKING:
    from kerasxfer_serving.cluster.engine import RayPredictor
    from kerasxfer_serving.inputs.reader import Reader
    from kerasxfer_serving.predictor import Predictor

    Engine: TypeAlias = Predictor | RayPredictor

_DESCRIBING = ("preprocess", "image_size", "layout", "labels", "activation", "resize", "draft", "sha256")
_OF_RAY = ("address", "num_workers", "gpus_per_worker")
_FEW = 256


@contextmanager
def open_engine(options: dict[str, Any], reader: "Reader") -> Iterator["Engine"]:
    """The engine that the options of `predict` ask for, with the batch size chosen.

    Raises:
        UsageError: options of one engine are given to the other.
    """
    if options["engine"] is choices.Engine.ray:
        from kerasxfer_serving.cluster import ray as ray_cluster

        if options["gpu_id"] != "0":
            raise UsageError("`--gpu-id` is for one machine: with `--engine ray`, give `--gpus-per-worker`.")
        with _silent(), ray_cluster.start(options["address"]) as ray, _open_ray(ray, options, reader) as cluster:
            note(_describe_cluster(ray, cluster))
            yield cluster
        return
    options["engine"].refuse_options_of_ray(**{name: options[name] for name in _OF_RAY})
    with _open_local(options, reader) as predictor:
        note(_describe(predictor))
        yield predictor


@contextmanager
def _silent() -> Iterator[None]:
    """Keep off standard output what Ray prints there of its own accord, about workers that died."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
        yield


def _open_local(options: dict[str, Any], reader: "Reader") -> "Predictor":
    from kerasxfer_serving.predictor import Predictor
    from kerasxfer_serving.runtime.tuning import best_batch_size

    arguments = _arguments(options)
    predictor = Predictor(options["model"], gpu_ids=_gpu_ids(options["gpu_id"]), **arguments)
    if arguments["batch_size"] is None and not _few(reader):
        best_batch_size(predictor)
    return predictor


def _open_ray(ray: Any, options: dict[str, Any], reader: "Reader") -> "RayPredictor":
    from kerasxfer_serving.cluster.engine import RayPredictor

    arguments = _arguments(options)
    note("Waiting for the first predictor on Ray.")
    return RayPredictor(
        ray,
        options["model"],
        num_workers=options["num_workers"],
        gpus_per_worker=options["gpus_per_worker"],
        tune=arguments["batch_size"] is None and not _few(reader),
        **arguments,
    )


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Arguments that a predictor has on any engine."""
    return {
        "device": options["device"].value,
        "batch_size": _batch_size(options),
        "manifest": describing.described_manifest(options["model"], **{name: options[name] for name in _DESCRIBING}),
        **{name: options[name] for name in ("threads", "tf32", "cache_dir", "features", "sha256")},
    }


def _batch_size(options: dict[str, Any]) -> int | None:
    """The size asked for, or the one that the run was begun with; `None` where it is to be measured."""
    from kerasxfer_serving.outputs.destination import journal_path
    from kerasxfer_serving.outputs.journal import begun_run

    text, out = options["batch_size"], options["out"]
    if text == "auto":
        begun = begun_run(journal_path(Path(out))) if options["resume"] and out != "-" else None
        return begun["batch_size"] if begun else None
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"`--batch-size` is `auto` or a number of at least 1. Received: {text!r}")
    return int(text)


def _few(reader: "Reader") -> bool:
    """Whether there are so few inputs that measuring is not worth the second it takes."""
    from itertools import islice

    return reader.repeatable and len(list(islice(reader, _FEW))) < _FEW


def _gpu_ids(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"`--gpu-id` is a number, or several: 0,1. Received: {text!r}") from None


def _describe(predictor: "Predictor") -> str:
    session = predictor.session
    if predictor.device == "cpu":
        where = f"{predictor.workers} runs at once, threads of each: {session.threads}"
    else:
        nodes = ", ".join(f"{count} nodes on {provider}" for provider, count in session.placement.items())
        where = f"GPU {', '.join(map(str, predictor.gpu_ids))}, TF32 {'on' if session.tf32 else 'off'}, {nodes}"
    chosen = f" (auto: {session.reason})" if session.reason else ""
    return f"Device {predictor.device}{chosen}; {where}; batch {predictor.batch_size}."


def _describe_cluster(ray: Any, cluster: "RayPredictor") -> str:
    machines = sum(node["Alive"] for node in ray.nodes())
    resources = ray.cluster_resources()
    return (
        f"Ray: {machines} machines, {resources.get('CPU', 0):g} cores, {resources.get('GPU', 0):g} GPUs. "
        f"Predictors on device {cluster.device}; batch {cluster.batch_size}."
    )
