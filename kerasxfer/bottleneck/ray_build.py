"""Computing the features of one data set on many machines: the shards of a build as tasks of a Ray cluster.

The tasks are the parts of `BottleneckCache.build(shard=(i, n))`, so what they leave in the directory is what a build on
one machine leaves there. A task that is started again, because its worker or its node died, keeps the shards that were
finished: only the one in the making is lost.
"""

import os
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
from kerasxfer_serving.cluster import ray as ray_cluster
from kerasxfer_serving.errors import KerasxferError, UsageError

from kerasxfer.bottleneck.builder import Tap, progress, shard_rows
from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.job import CacheJob, Settings
from kerasxfer.bottleneck.planner import CachePlan
from kerasxfer.bottleneck.row_sources import ArraySource
from kerasxfer.bottleneck.sources import FolderSource, ImageSource, Item, items_of, shards_of
from kerasxfer.keras_files import load_model

_PARTS_PER_WORKER = 4  # so that the last worker to finish does not keep the others waiting for long
_RETRIES = 3


@dataclass(frozen=True)
class _Work:
    """What a worker must know; the same for all parts."""

    settings: Settings
    model: bytes
    jit_compile: bool
    source: ImageSource
    positions: tuple[int, ...]
    fingerprints: tuple[str, ...]


def build_on_ray(
    job: CacheJob,
    source: ImageSource,
    *,
    address: str | None = None,
    num_workers: int | None = None,
    gpus_per_worker: float = 0,
) -> CachePlan:
    """Fill the shelves of a schedule by the workers of a cluster.

    Args:
        job: The model with its schedule and the cache's settings; its directory and the images must be on storage
            that all nodes share.
        source: The images, an `ImageFolder` or arrays.
        address: Address of the cluster, as `ray_cluster.start` takes it. Defaults to `None`.
        num_workers: How many parts are computed at a time; they divide the cluster's cores. Defaults to `None`, one
            on each node, or with `gpus_per_worker` as many as there are GPUs for.
        gpus_per_worker: GPUs that a worker takes. Defaults to `0`.

    Returns:
        The `CachePlan` that was carried out.

    Raises:
        CacheError: If a part cannot be computed, or the workers' files are not to be seen here.
    """
    if not isinstance(source, FolderSource | ArraySource):
        raise CacheError("Ray's workers need an `ImageFolder` or arrays, whose images can be read in any order.")
    plan = job.plan(source)
    positions, copies = job.known_beforehand(plan), job.copies(source)
    items, taps = items_of(source, copies), job.taps(positions, source, copies)
    missing = _missing(taps, items)
    if not missing:
        return plan
    settings = replace(job.settings, directory=job.settings.directory.resolve(), verbose=0)
    fingerprints = tuple(tap.shelf.fingerprint for tap in taps)
    work = _Work(settings, _saved(job.model), bool(job.model.jit_compile), source, tuple(positions), fingerprints)
    shards = len(shards_of(items, shard_rows(taps, source.batch_size, settings.shard_bytes)))
    names = ", ".join(tap.name for tap in taps)
    with ray_cluster.start(address) as ray, progress(job.settings.verbose, missing, names) as advance:
        workers, resources = _share(ray, num_workers, gpus_per_worker)
        _run(ray, work, min(shards, workers * _PARTS_PER_WORKER), workers, resources, advance)
    if left := _missing(taps, items):
        raise CacheError(
            f"The workers are done, and {left} images are missing in '{job.settings.directory}'. The directory must "
            "be on storage that all nodes of the cluster share."
        )
    return plan


def _run(ray: Any, work: _Work, parts: int, workers: int, resources: dict[str, float], advance: Any) -> None:
    """Compute all parts, some at a time; the first error ends it."""
    compute = ray.remote(_compute).options(
        name="kerasxfer cache",
        max_retries=_RETRIES,
        scheduling_strategy="SPREAD",
        num_cpus=resources["CPU"],
        num_gpus=resources["GPU"],
        runtime_env={"env_vars": _environment(resources["CPU"])},
    )
    key, shared = uuid.uuid4().hex, [ray.put(work)]
    waiting = list(range(parts))
    running: list[Any] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(compute.remote(key, shared, (waiting.pop(0), parts)))
            done, running = ray.wait(running)
            advance(sum(ray.get(done)))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise CacheError(
            f"A part of the work failed {_RETRIES + 1} times: {error} Look at the memory of the nodes and at the "
            "images; finished shards stay valid, and the next run continues from there."
        ) from error
    finally:
        for left in running:
            ray.cancel(left)


_JOBS: dict[str, tuple[_Work, CacheJob]] = {}  # in a worker's process: the model, loaded once for all of its parts


def _compute(key: str, shared: list[Any], part: tuple[int, int]) -> int:
    """On a worker: compute one part; returns how many images that were."""
    if key not in _JOBS:
        import ray

        work = ray.get(shared[0])
        _JOBS.clear()
        _JOBS[key] = work, CacheJob(work.settings, _loaded(work))
    work, job = _JOBS[key]
    copies = job.copies(work.source)
    taps = job.taps(work.positions, work.source, copies)
    if tuple(tap.shelf.fingerprint for tap in taps) != work.fingerprints:
        raise CacheError(
            f"The worker on {os.uname().nodename} would compute other features: its versions of Keras, of the backend "
            "or of Pillow differ from those of the machine that started the build. Install the same on all nodes."
        )
    size = shard_rows(taps, work.source.batch_size, work.settings.shard_bytes)
    mine = [item for shard in shards_of(items_of(work.source, copies), size, part) for item in shard]
    missing = _missing(taps, mine)
    try:
        job.build(work.positions, work.source, copies, part)
    except KerasxferError as error:  # not all of them survive the way to another process
        raise CacheError(str(error)) from None
    return missing


def _missing(taps: Sequence[Tap], items: Sequence[Item]) -> int:
    """Images of which at least one boundary is not there."""
    there = [tap.shelf.keys() for tap in taps]
    return sum(not all(item.key in keys for keys in there) for item in items)


def _share(ray: Any, num_workers: int | None, gpus_per_worker: float) -> tuple[int, dict[str, float]]:
    """Number of workers, and what each of them takes of the cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores, gpus = ([int(node.get(kind, 0)) for node in nodes] for kind in ("CPU", "GPU"))
    if gpus_per_worker > max(gpus):
        raise UsageError(f"`gpus_per_worker` must be at most what a node has, {max(gpus)}. Received: {gpus_per_worker}")
    if num_workers is None:
        num_workers = int(sum(gpus) / gpus_per_worker) if gpus_per_worker else sum(count > 0 for count in cores)
    smallest = min(count for count in cores if count)
    return num_workers, {"CPU": max(1, min(smallest, sum(cores) // num_workers)), "GPU": gpus_per_worker}


def _environment(cores: float) -> dict[str, str]:
    """The driver's backend, and no more threads than cores: each framework has a variable of its own for it."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"), str(int(cores)))
    return {"KERAS_BACKEND": keras.backend.backend(), **threads}


def _saved(model: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.read_bytes()


def _loaded(work: _Work) -> keras.Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(work.model)
        model = load_model(path)
    model.jit_compile = work.jit_compile
    return model
