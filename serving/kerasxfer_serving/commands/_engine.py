"""What predicts for `predict`: this process, or the workers of a Ray cluster."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasxfer_serving.commands import options
from kerasxfer_serving.commands.choices import CpuPrecision, Device, EngineName
from kerasxfer_serving.commands.options import ON_RAY, RUNNING, read_integers, refuse_without_ray
from kerasxfer_serving.commands.output import note
from kerasxfer_serving.errors import UsageError

if TYPE_CHECKING:
    from kerasxfer_serving.cluster.engine import RayPredictor
    from kerasxfer_serving.predictor import Predictor, PredictorArguments


@dataclass(frozen=True)
class EngineOptions:
    """Which engine runs the model, and how."""

    batch_size: Annotated[
        str, typer.Option(help="Images per run of the model; `auto` measures the best.", rich_help_panel=RUNNING)
    ] = "auto"
    device: options.DeviceOption = Device.auto
    gpu_id: Annotated[
        str | None,
        typer.Option(
            help="GPU to use, or several, such as 0,1. Default: the first.",
            show_default=False,
            rich_help_panel=RUNNING,
        ),
    ] = None
    threads: Annotated[
        int,
        typer.Option(
            min=1,
            max=1024,
            help="CPU threads per run of the model; runs go in parallel over the cores.",
            rich_help_panel=RUNNING,
        ),
    ] = 1
    tf32: options.Tf32Option = True
    cpu_precision: options.CpuPrecisionOption = None
    decode_processes: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1024,
            help="Processes that decode images; 0 uses threads. Default: one per core if a GPU runs the model.",
            rich_help_panel=RUNNING,
            show_default=False,
        ),
    ] = None
    cache_dir: options.CacheDirOption = None
    engine: options.EngineOption = EngineName.local
    address: options.AddressOption = None
    num_workers: options.NumWorkersOption = None
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="GPUs per worker. Default: 1 if the cluster has any.",
            rich_help_panel=ON_RAY,
            show_default=False,
        ),
    ] = None

    def __post_init__(self) -> None:
        refuse_without_ray(
            self.engine, address=self.address, num_workers=self.num_workers, gpus_per_worker=self.gpus_per_worker
        )
        if self.engine is EngineName.ray and self.gpu_id is not None:
            raise UsageError("`--gpu-id` is for one machine: with `--engine ray`, use `--gpus-per-worker`.")
        if self.engine is EngineName.ray and self.decode_processes is not None:
            raise UsageError("`--decode-processes` is for one machine: with `--engine ray`, Ray's tasks decode.")

    @property
    def gpu_ids(self) -> tuple[int, ...] | None:
        """The GPUs to use; `None` if none is named."""
        return None if self.gpu_id is None else read_integers("--gpu-id", self.gpu_id, least=0)

    @property
    def size(self) -> int | None:
        """Images per run of the model; `None` to measure the best size."""
        if self.batch_size == "auto":
            return None
        if len(numbers := read_integers("--batch-size", self.batch_size, least=1)) > 1:
            raise UsageError(f"`--batch-size` takes `auto` or one number. Received: {self.batch_size!r}")
        return numbers[0]

    @property
    def arguments(self) -> "PredictorArguments":
        """Arguments of each predictor, on any engine."""
        return {
            "device": self.device.value,
            "gpu_ids": self.gpu_ids,
            "batch_size": self.size,
            "threads": self.threads,
            "tf32": self.tf32,
            "cpu_precision": self.cpu_precision and self.cpu_precision.value,
            "cache_dir": self.cache_dir,
        }

    def as_begun(self, run: Mapping[str, Any]) -> "EngineOptions":
        """The options with the batch size and device that a resumed run chose; unchanged if there is none."""
        chosen = self
        if self.size is None and run.get("batch_size"):
            chosen = replace(chosen, batch_size=str(run["batch_size"]))
        if self.device is Device.fastest and run:
            precision = run.get("cpu_precision")
            chosen = replace(
                chosen, device=Device(run["device"]), cpu_precision=CpuPrecision(precision) if precision else None
            )
        return chosen


@contextmanager
def open_engine(
    model: Path, arguments: "PredictorArguments", options: EngineOptions, *, tune: bool
) -> "Iterator[Predictor | RayPredictor]":
    """The engine that the options ask for, with the batch size chosen.

    Args:
        model: The .onnx file.
        arguments: Arguments of each predictor, on any engine.
        options: The command line's options.
        tune: Whether to measure the best batch size, if the model leaves it open.
    """
    if options.engine is EngineName.local:
        from kerasxfer_serving.predictor import Predictor
        from kerasxfer_serving.runtime.tuning import best_batch_size

        with Predictor(model, decode_processes=options.decode_processes, **arguments) as predictor:
            if tune:
                best_batch_size(predictor)
            note(_describe(predictor, options.device))
            yield predictor
        return

    if (manifest := arguments.get("manifest")) and manifest.policy.decoder == "gpu":
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
            tune=tune,
            **arguments,
        ) as cluster:
            note(_describe_cluster(ray, cluster))
            yield cluster


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what Ray prints about workers that died off standard output."""
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
