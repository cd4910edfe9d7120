"""Several processes on one socket, watched: one that dies or hangs is replaced while the others answer."""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import SpawnProcess

from kerasxfer_serving.errors import KerasxferError

_LOG = logging.getLogger(__name__)
_HEARTBEAT_LOST = 30.0  # seconds without a sign of life after which a process counts as hung
_SHORT_LIFE = 10.0  # seconds; what dies sooner is started again more slowly each time
_LONGEST_PAUSE = 30.0


class Heartbeat:
    """A worker's end of the pipe to its supervisor.

    Args:
        pipe: The end that sends.
        parent: Process ID of the supervisor.
    """

    def __init__(self, pipe: connection.Connection, parent: int) -> None:
        self._pipe = pipe
        self._parent = parent

    def beat(self) -> None:
        """Say that the event loop turns; begin to stop where nobody is there to hear it."""
        if os.getppid() != self._parent:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        with contextlib.suppress(OSError):  # the parent is about to go
            self._pipe.send_bytes(b".")


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: connection.Connection
    started: float = field(default_factory=time.monotonic)
    heard: float | None = None


class Supervisor:
    """Keeps a number of worker processes running.

    Args:
        count: How many.
        work: What each does, in a process that is spawned: called with the listening sockets and a `Heartbeat`, which
            it must beat once a second when it is ready.
        sockets: The listening sockets, which all share.
        stop_timeout: Seconds that workers have to stop.
    """

    def __init__(
        self, count: int, work: Callable[..., None], sockets: Sequence[socket.socket], stop_timeout: float
    ) -> None:
        self._count = count
        self._work = work
        self._sockets = list(sockets)
        self._stop_timeout = stop_timeout
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._stopping = False
        self._pause = 0.0
        self._ever_ready = False

    def run(self) -> None:
        """Start the workers, keep them running until SIGTERM or SIGINT, then stop them.

        Raises:
            KerasxferError: A worker ended before any was ready: it has said why.
        """
        from prometheus_client.multiprocess import mark_process_dead

        with tempfile.TemporaryDirectory(prefix="kerasxfer-metrics-") as metrics:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics  # read where prometheus_client is imported, in the workers
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
            self._workers = [self._start() for _ in range(self._count)]
            while not self._stopping:
                self._listen()
                for worker in self._lost():
                    mark_process_dead(worker.process.pid, metrics)  # type: ignore[no-untyped-call]
                    self._replace(worker)
            self._stop()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe(duplex=False)
        heartbeat = Heartbeat(theirs, os.getpid())
        process = self._context.Process(target=_run_worker, args=(self._work, self._sockets, heartbeat))
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _listen(self) -> None:
        """Wait up to a second for heartbeats and deaths."""
        heard = [worker for worker in self._workers if not worker.pipe.closed]
        sentinels = [worker.process.sentinel for worker in self._workers]
        ready = connection.wait([*(worker.pipe for worker in heard), *sentinels], timeout=1.0)
        for worker in heard:
            if worker.pipe in ready:
                self._hear(worker)

    def _hear(self, worker: _Worker) -> None:
        try:
            worker.pipe.recv_bytes()
        except (EOFError, OSError):
            worker.pipe.close()
            return
        if worker.heard is None:
            _LOG.info("Process %s is ready", worker.process.pid)
            self._ever_ready = True
        worker.heard = time.monotonic()

    def _lost(self) -> list[_Worker]:
        """Workers that are dead or hang; those that hang are killed."""
        lost = []
        for worker in self._workers:
            hung = worker.heard is not None and time.monotonic() - worker.heard > _HEARTBEAT_LOST
            if hung:
                _LOG.error("Process %s hangs and is killed", worker.process.pid)
                worker.process.kill()
                worker.process.join()
            if hung or not worker.process.is_alive():
                lost.append(worker)
        return lost

    def _replace(self, worker: _Worker) -> None:
        if self._stopping:
            return
        if not self._ever_ready:
            self._stop()
            raise KerasxferError("The server cannot start: its first process ended, and has said why above.")
        short = time.monotonic() - worker.started < _SHORT_LIFE
        self._pause = min(_LONGEST_PAUSE, self._pause * 2 or 0.5) if short else 0.0
        _LOG.error(
            "Process %s ended with %s; starting another in %g s",
            worker.process.pid,
            worker.process.exitcode,
            self._pause,
        )
        worker.pipe.close()
        end = time.monotonic() + self._pause
        while time.monotonic() < end and not self._stopping:  # a signal ends no sleep
            time.sleep(0.05)
        self._workers[self._workers.index(worker)] = self._start()

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stopping:  # the second signal: at once
            for worker in self._workers:
                worker.process.kill()
        self._stopping = True

    def _stop(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        end = time.monotonic() + self._stop_timeout
        for worker in self._workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _run_worker(work: Callable[..., None], sockets: Sequence[socket.socket], heartbeat: Heartbeat) -> None:
    if hasattr(os, "setsid"):  # else Ctrl-C would go to the workers too, which the supervisor tells already
        os.setsid()
    work(sockets, heartbeat)
