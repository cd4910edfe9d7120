"""What predicts for `predict`: this process, or the workers of a Ray cluster."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from kerasxfer_serving.commands._model import ModelOptions
from kerasxfer_serving.commands.choices import CpuPrecision, Decode, Device, EngineName
from kerasxfer_serving.commands.options import ON_RAY, RUNNING, refuse_without_ray
from kerasxfer_serving.commands.output import note
from kerasxfer_serving.errors import UsageError

if TYPE_CHECKING:
    from kerasxfer_serving.cluster.engine import RayPredictor
    from kerasxfer_serving.predictor import Predictor, PredictorArguments

BatchSizeOption: TypeAlias = Annotated[
    str, typer.Option(help="Images in one run of the model; `auto` measures.", rich_help_panel=RUNNING)
]
GpuIdOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="GPU to use, or several, as in 0,1. Default: the first.",
        show_default=False,
        rich_help_panel=RUNNING,
    ),
]
ThreadsOption: TypeAlias = Annotated[
    int,
    typer.Option(
        min=1,
        max=1024,
        help="CPU threads of one run of the model; the cores share the runs.",
        rich_help_panel=RUNNING,
    ),
]
DecodeProcessesOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1024,
        help="Processes that decode; 0: threads of this one. Default: a process for each core in front of a GPU.",
        rich_help_panel=RUNNING,
        show_default=False,
    ),
]
GpusPerWorkerOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="GPUs of each worker. Default: 1 where the cluster has any.",
        rich_help_panel=ON_RAY,
        show_default=False,
    ),
]


@dataclass(frozen=True)
class EngineOptions:
    """What runs the model, and how.

    Args:
        engine: This process, or a Ray cluster.
        device: Where the model runs.
        gpu_ids: The GPUs to use; `None` where none is named.
        batch_size: Images in one run of the model; `None` for the model's or the default one.
        tune: Measure the best batch size, where none is given and the model leaves one open.
        threads: CPU threads of one run.
        tf32: Let CUDA round float32 products to TF32.
        cpu_precision: What OpenVINO computes in; `None` for what the model's manifest says.
        decode_processes: Processes that decode; `None` for as many as are worth it.
        cache_dir: Where TensorRT keeps engines, and OpenVINO what it compiled.
        features: Also return the input of the last dense layer.
        address: Of the cluster.
        num_workers: Predictors on the cluster.
        gpus_per_worker: GPUs of each.
    """

    engine: EngineName = EngineName.local
    device: Device = Device.auto
    gpu_ids: tuple[int, ...] | None = None
    batch_size: int | None = None
    tune: bool = False
    threads: int = 1
    tf32: bool = True
    cpu_precision: CpuPrecision | None = None
    decode_processes: int | None = None
    cache_dir: Path | None = None
    features: bool = False
    address: str | None = None
    num_workers: int | None = None
    gpus_per_worker: float | None = None

    def __post_init__(self) -> None:
        refuse_without_ray(
            self.engine, address=self.address, num_workers=self.num_workers, gpus_per_worker=self.gpus_per_worker
        )
        if self.engine is EngineName.ray and self.gpu_ids is not None:
            raise UsageError("`--gpu-id` is for one machine: with `--engine ray`, give `--gpus-per-worker`.")
        if self.engine is EngineName.ray and self.decode_processes is not None:
            raise UsageError("`--decode-processes` is for one machine: with `--engine ray`, Ray's tasks decode.")


@contextmanager
def open_engine(
    model: Path, model_options: ModelOptions, options: EngineOptions
) -> "Iterator[Predictor | RayPredictor]":
    """The engine that the options ask for, with the batch size chosen."""
    arguments = _arguments(model, model_options, options)
    if options.engine is EngineName.local:
        from kerasxfer_serving.predictor import Predictor
        from kerasxfer_serving.runtime.tuning import best_batch_size

        with Predictor(model, decode_processes=options.decode_processes, **arguments) as predictor:
            if options.tune:
                best_batch_size(predictor)
            note(_describe(predictor, options.device))
            yield predictor
        return

    if model_options.decode is Decode.gpu:
        raise UsageError("`--decode gpu` is for one machine: with `--engine ray`, Ray's tasks decode, on their CPUs.")
    from kerasxfer_serving.cluster import ray as ray_cluster
    from kerasxfer_serving.cluster.engine import RayPredictor

    with _silent(), ray_cluster.start(options.address) as ray:
        note("Waiting for the first predictor on Ray.")
        with RayPredictor(
            ray,
            model,
            num_workers=options.num_workers,
            gpus_per_worker=options.gpus_per_worker,
            tune=options.tune,
            **arguments,
        ) as cluster:
            note(_describe_cluster(ray, cluster))
            yield cluster


def _arguments(model: Path, model_options: ModelOptions, options: EngineOptions) -> "PredictorArguments":
    """The arguments that a predictor has on any engine."""
    return {
        "device": options.device.value,
        "gpu_ids": options.gpu_ids,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "tf32": options.tf32,
        "cpu_precision": options.cpu_precision and options.cpu_precision.value,
        "cache_dir": options.cache_dir,
        "features": options.features,
        "manifest": model_options.manifest(model),
        "sha256": model_options.sha256,
    }


@contextmanager
def _silent() -> Iterator[None]:
    """Keep off standard output what Ray prints there of its own accord, about workers that died."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
        yield


def _describe(predictor: "Predictor", wanted: Device) -> str:
    from kerasxfer_serving.runtime.session import executed_precisions

    session = predictor.session
    if predictor.on_cpu:
        precisions = executed_precisions(session.describe())
        nodes = f", nodes in {', '.join(f'{name} {count}' for name, count in precisions.items())}" if precisions else ""
        where = f"{predictor.workers} runs at once, threads of each: {session.threads}{nodes}"
    else:
        nodes = ", ".join(f"{count} nodes on {provider}" for provider, count in session.placement.items())
        tf32 = "on" if session.tf32 else "off"
        where = f"GPU {', '.join(map(str, predictor.gpu_ids))}, TF32 {tf32}, {nodes}, {_decoder(predictor)}"
    chosen = f" ({wanted}: {predictor.reason})" if predictor.reason else ""
    return f"Device {predictor.device}{chosen}; {where}; batch {predictor.batch_size}."


def _decoder(predictor: "Predictor") -> str:
    decoding = predictor.describe_decoding()
    if decoding["decoder"] == "gpu":
        apart = decoding["difference"]
        return f"JPEG files decoded there too (golden images within {apart['max']:.0f} of 255 of Pillow's)"
    return f"images decoded by {decoding['processes'] or 'threads'}{' processes' * bool(decoding['processes'])}"


def _describe_cluster(ray: Any, cluster: "RayPredictor") -> str:
    machines = sum(node["Alive"] for node in ray.nodes())
    resources = ray.cluster_resources()
    return (
        f"Ray: {machines} machines, {resources.get('CPU', 0):g} cores, {resources.get('GPU', 0):g} GPUs. "
        f"Predictors on device {cluster.device}; batch {cluster.batch_size}."
    )
