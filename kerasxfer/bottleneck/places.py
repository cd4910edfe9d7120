"""The boundaries that a fit may train from, each with its suffix."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kerasxfer.bottleneck.feeding import Place
from kerasxfer.bottleneck.job import CacheJob
from kerasxfer.bottleneck.measure import faster_with_jit
from kerasxfer.bottleneck.planner import CachePlan, storage_dtype
from kerasxfer.bottleneck.sources import ImageSource


def image_place(samples: Sequence[tuple[ImageSource, int]]) -> Place:
    """The images themselves.

    Args:
        samples: The sources of the fit, each with its number of augmented copies.
    """
    images = [source.images(np.array([0]), 0 if copies else None) for source, copies in samples]
    return Place(0, np.empty((0, *images[0].shape[1:]), np.result_type(*images)))


def place_at(job: CacheJob, position: int) -> Place:
    """A boundary."""
    tensor = job.graph.cut(position)
    empty_batch = np.empty((0, *tensor.shape[1:]), storage_dtype(tensor, job.settings.dtype))
    return Place(position, empty_batch, job.suffix(position))


def places_of(job: CacheJob, plan: CachePlan, jit_compile: bool | str, batch_size: int, steps: int) -> list[Place]:
    """The boundaries of a plan, each with the setting of XLA that is asked for or faster.

    Args:
        job: The model with the cache's settings.
        plan: Its plan.
        jit_compile: As in `BottleneckCache`.
        batch_size: Images in a batch.
        steps: Training steps that the fit will take.
    """
    places = []
    for place in (place_at(job, position) for position in plan.positions):
        jit = jit_compile if isinstance(jit_compile, bool) else None
        if jit is None:
            directory = job.settings.directory
            jit = faster_with_jit(directory, job.model, place.suffix, place.empty_batch, batch_size, steps)
        places.append(replace(place, jit_compile=jit))
    return places
