"""The predictors of a cluster: as many as there is room and work for, opened and replaced as machines come and go."""

import math
import time
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kerasxfer_serving.cluster.workers import Opened, PredictorWorker
from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.predictor import PredictorArguments

if TYPE_CHECKING:
    import ray

# Of each core a predictor on the CPU takes three quarters and decoding takes the rest. These are shares that Ray counts
# with; how the core's time is really divided is decided by the operating system, as the work demands.
DECODING_SHARE = 0.25
_LOOK_SECONDS = 1.0
_PATIENCE = 900.0  # as long as a cluster may need to grow
_OPENINGS_THAT_FAIL = 5


@dataclass(eq=False)
class Worker:
    """An actor with a predictor, and the number of chunks it has in hand."""

    actor: Any
    opened: Opened | None = None
    chunks: int = 0


class Pool:
    """A pool of predictors that grows and shrinks with the cluster.

    Args:
        ray: The module.
        name: Of the model file.
        model: Ray's reference to its bytes.
        arguments: Of each `Predictor`.
        limit: Predictors, also where the cluster must grow for them. Defaults to as many as there is room for.
        gpus: Of each.
        threads: CPU threads of each, where there are no GPUs.
    """

    def __init__(
        self,
        ray: ModuleType,
        name: str,
        model: Any,
        arguments: PredictorArguments,
        *,
        limit: int | None,
        gpus: float,
        threads: int,
    ) -> None:
        self._ray = ray
        self._name, self._model, self._arguments = name, model, arguments
        self._description: dict[str, Any] | None = None
        self._limit = limit
        self._needs = {"GPU": gpus} if gpus else {"CPU": threads - DECODING_SHARE}
        self._room_for_one = {"GPU": gpus} if gpus else {"CPU": threads}
        # A GPU computes on one batch while the next is uploaded.
        at_once = 2 if gpus else 1
        self.in_hand = at_once + 1
        self._actor = ray.remote(PredictorWorker).options(
            num_cpus=self._needs.get("CPU", 0),
            num_gpus=gpus,
            max_concurrency=at_once,
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )
        self.workers: list[Worker] = []
        self.opening: dict[Any, Worker] = {}
        self._failed = 0
        self._looked = -math.inf

    def open_first(self, *, tune: bool) -> Opened:
        """Open one predictor, and wait for it.

        Raises:
            KerasxferError: There is no room for it.
        """
        if not self._limit and not self.room():
            raise KerasxferError(
                f"The cluster has no room for a predictor, which needs {self._room_for_one}. "
                f"Received: {self._ray.cluster_resources()}. Add machines, or ask for fewer threads or GPUs."
            )
        deadline = time.monotonic() + _PATIENCE
        while not self.workers:
            if not self.opening:
                self._open(tune=tune)
            for ref in self._ray.wait([*self.opening], timeout=1.0)[0]:
                self.opened(ref)
            if time.monotonic() > deadline:
                raise KerasxferError(f"No predictor could be started within {_PATIENCE:.0f} seconds.")
        opened = self.workers[0].opened
        assert opened is not None
        return opened

    def fix(self, description: dict[str, Any], *, device: str, batch_size: int) -> None:
        """Demand of every further predictor what the first one is."""
        fixed: PredictorArguments = {
            "device": device,
            "cpu_precision": description["cpu_precision"],
            "batch_size": batch_size,
        }
        self._arguments = self._arguments | fixed
        self._description = description

    def room(self) -> int:
        """How many predictors the cluster has room for."""
        resources = self._ray.cluster_resources()
        return int(min(resources.get(kind, 0) / amount for kind, amount in self._room_for_one.items()))

    def adjust(self, chunks: int) -> None:
        """Open more predictors where there is room, and work for them: `chunks` not yet predicted."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self._forget_the_dead()
        wanted = min(self._limit or max(1, self.room()), max(1, chunks))
        for _ in range(wanted - len(self.workers) - len(self.opening)):
            self._open(tune=False)

    def _forget_the_dead(self) -> None:
        """Let go of predictors on machines that have left: one that is not asked would keep the place of another."""
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        for worker in [worker for worker in self.workers if _node(worker) not in alive]:
            self.lost(worker)

    def opened(self, ref: "ray.ObjectRef") -> None:
        """Take in a predictor that is ready.

        Raises:
            KerasxferError: It is not what the first one is; or openings fail again and again.
        """
        worker = self.opening.pop(ref)
        try:
            worker.opened = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, KerasxferError) else error from None
        except self._ray.exceptions.RayError as error:  # its machine is gone, or its memory was not enough
            self._failed += 1
            if self._failed > _OPENINGS_THAT_FAIL:
                raise KerasxferError(f"Predictors die while they start: {error}") from error
            return
        self._failed = 0
        self._require_same(worker.opened)
        self.workers.append(worker)

    def free(self, nodes: set[str]) -> Worker | None:
        """A predictor with room for a chunk: where its images are if possible, else the least busy one."""
        free = [worker for worker in self.workers if worker.chunks < self.in_hand]
        return min(
            free, key=lambda worker: (worker.chunks > 1, _node(worker) not in nodes, worker.chunks), default=None
        )

    def lost(self, worker: Worker) -> None:
        """Let go of a predictor that does not answer."""
        if worker in self.workers:
            self.workers.remove(worker)
            self._looked = -math.inf
        self._kill(worker)

    def close(self) -> None:
        """Let go of all predictors."""
        for worker in (*self.workers, *self.opening.values()):
            self._kill(worker)
        self.workers, self.opening = [], {}

    def _open(self, *, tune: bool) -> None:
        worker = Worker(self._actor.remote())
        self.opening[worker.actor.open.remote(self._name, self._model, self._arguments, tune)] = worker

    def _require_same(self, opened: Opened) -> None:
        expected = self._description or opened.description
        for name, value in opened.description.items():
            if value != expected[name]:
                raise KerasxferError(
                    f"Every predictor of a run must be the same, and they differ in `{name}`: {expected[name]!r:.200}. "
                    f"Received: {value!r:.200}, on {opened.node}. Choose with `--device`."
                )

    def _kill(self, worker: Worker) -> None:
        self._ray.kill(worker.actor)


def _node(worker: Worker) -> str:
    return worker.opened.node if worker.opened else ""
