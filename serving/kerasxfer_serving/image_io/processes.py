"""Images decoded by processes of their own, into memory that is shared with this one.

Threads of one process take turns at Python's lock a dozen times for each image. On sixteen cores that leaves a fifth of
what the cores could decode; processes have a lock each. They are plain children with pipes, not `multiprocessing`, so
that a script needs no `if __name__ == "__main__"`, and an image that kills its decoder costs its own row only.
"""

import math
import mmap
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import DecodedImage, ImagePolicy
from kerasxfer_serving.inputs.input import Batch, Input, decode_input

CHUNK = 16
"""Images that a process decodes at a time: enough to make a message cheap, few enough to share a batch out."""

_SHARED_MEMORY = Path("/dev/shm")
_NAMELESS = os.name == "posix"  # whether a file lives on without a name, and a child inherits its descriptor


class _Setting(NamedTuple):
    """What a process must know before the first image."""

    policy: ImagePolicy
    size: tuple[int, int]
    file: int | str
    shape: tuple[int, int, int, int, int]


class _Task(NamedTuple):
    slot: int
    start: int
    items: list[Input]


class DecodingProcesses:
    """Decodes batches in processes of its own. Safe to use from many threads; to be closed.

    Args:
        size: `(height, width)` of the result.
        policy: How images become pixels.
        processes: Number of processes.
        batch_size: Most inputs of one batch.
        slots: Batches in work at once, of which each has `batch_size * height * width * 3` bytes of shared memory.

    Example:

    ```python
    from kerasxfer_serving.inputs.input import as_inputs

    with DecodingProcesses((224, 224), ImagePolicy(), processes=2, batch_size=8, slots=2) as decoding:
        with decoding.decoded(as_inputs(["cat.jpg", "broken.jpg"])) as batch:
            batch.pixels.shape  # (2, 224, 224, 3); the pixels are valid inside the block
    ```
    """

    def __init__(
        self, size: tuple[int, int], policy: ImagePolicy, *, processes: int, batch_size: int, slots: int
    ) -> None:
        shape = (slots, batch_size, *size, 3)
        self._file = _shared_file(math.prod(shape))
        self._setting = _Setting(policy, size, self._file, shape)
        self._pixels = _map(self._setting)
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(slots):
            self._slots.put(slot)
        self._workers: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all = [_Worker(self._setting) for _ in range(processes)]
        for worker in self._all:
            self._workers.put(worker)
        self._pool = ThreadPoolExecutor(processes, "kerasxfer-decode")

    @contextmanager
    def decoded(self, items: Sequence[Input]) -> Iterator[Batch]:
        """The images of at most `batch_size` inputs; their pixels last as long as the context."""
        slot = self._slots.get()
        try:
            chunks = [_Task(slot, start, list(items[start : start + CHUNK])) for start in range(0, len(items), CHUNK)]
            done: list[Future[list[Any]]] = [self._pool.submit(self._decode, chunk) for chunk in chunks]
            pixels = self._pixels[slot, : len(items)]
            found = [answer for future in done for answer in future.result()]
            yield Batch([_image(answer, row) for answer, row in zip(found, pixels, strict=True)], pixels)
        finally:
            self._slots.put(slot)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)
        for worker in self._all:
            worker.close()
        del self._pixels  # the memory goes with the last view of it
        if isinstance(self._file, int):
            os.close(self._file)
        else:
            with suppress(OSError):
                Path(self._file).unlink()

    def __enter__(self) -> "DecodingProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self, task: _Task) -> list[Any]:
        """Answers for the inputs of a chunk; where its process dies, for each input by itself."""
        worker = self._workers.get()
        try:
            return worker.ask(task)
        except (EOFError, OSError):
            worker.restart()
            if len(task.items) == 1:
                self._pixels[task.slot, task.start] = 0
                return [ImageError("worker_died", f"{task.items[0].path!r} ended the process that decoded it")]
        except _NotPortableError:
            return _decode_here(task, self._setting, self._pixels)
        finally:
            self._workers.put(worker)
        each = (_Task(task.slot, task.start + offset, [item]) for offset, item in enumerate(task.items))
        return [answer for one in each for answer in self._decode(one)]


class _NotPortableError(Exception):
    """Inputs that cannot be sent to another process."""


class _Worker:
    """One process, as its owner sees it."""

    def __init__(self, setting: _Setting) -> None:
        self._setting = setting
        self._start()

    def _start(self) -> None:
        search = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve_decoding; serve_decoding()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": search},
            pass_fds=(self._setting.file,) if isinstance(self._setting.file, int) else (),
        )
        self._ready = False
        _send(self._input, pickle.dumps(self._setting))

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def ask(self, task: _Task) -> list[Any]:
        try:
            message = pickle.dumps(task)
        except Exception as error:  # pickle raises whatever the object at hand does
            raise _NotPortableError from error
        if not self._ready:  # all processes start at once, beside the first batches
            self._ready = bool(pickle.load(self._output))
        _send(self._input, message)
        answers = pickle.load(self._output)
        if answers is None:
            raise _NotPortableError
        return answers  # type: ignore[no-any-return]

    def restart(self) -> None:
        self.close()
        self._start()

    def close(self) -> None:
        with suppress(OSError):
            self._input.close()
        self._process.kill()
        self._process.wait()
        self._output.close()


def _send(file: IO[bytes], message: bytes) -> None:
    file.write(len(message).to_bytes(8, "little") + message)
    file.flush()


def _image(answer: Any, pixels: NDArray[np.uint8]) -> DecodedImage | ImageError:
    return answer if isinstance(answer, ImageError) else DecodedImage(pixels, *answer)


def _decode_here(task: _Task, setting: _Setting, pixels: NDArray[np.uint8]) -> list[Any]:
    """Decode into shared memory; all of each image but its pixels is the answer."""
    answers: list[Any] = []
    for place, item in zip(pixels[task.slot, task.start :], task.items, strict=False):
        image = decode_input(item, setting.policy, setting.size)
        if isinstance(image, ImageError):
            place[...] = 0
            answers.append(image)
        else:
            place[...] = image.pixels
            answers.append((image.width, image.height, image.format, image.mode, image.animated))
    return answers


def _shared_file(size: int) -> int | str:
    """A file of `size` bytes in memory, or where there is no room for it, on the disk.

    Returns:
        Its descriptor, without a name, so that nothing stays behind; its name where that is not possible.
    """
    for folder in (_SHARED_MEMORY, None):
        if folder is not None and not os.access(folder, os.W_OK):
            continue
        handle, name = tempfile.mkstemp(prefix="kerasxfer-", dir=folder)
        try:
            if not _NAMELESS:
                os.truncate(handle, size)
                os.close(handle)
                return name
            Path(name).unlink()
            _reserve(handle, size)
            return handle
        except OSError:
            os.close(handle)
    raise MemoryError(f"No room for {size:,} bytes of shared memory, neither in memory nor in {tempfile.gettempdir()}")


def _reserve(handle: int, size: int) -> None:
    """Whoever writes to a file in a full memory file system is killed: take the room now, or fail now."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.truncate(handle, size)


def _map(setting: _Setting) -> NDArray[np.uint8]:
    if isinstance(setting.file, int):
        memory = mmap.mmap(setting.file, 0)
    else:
        with Path(setting.file).open("rb+") as file:
            memory = mmap.mmap(file.fileno(), 0)
    pixels: NDArray[np.uint8] = np.frombuffer(memory, np.uint8).reshape(setting.shape)
    return pixels


def serve_decoding() -> None:
    """What a process does: decode what comes in until nothing does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the owner ends this process
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    setting: _Setting = pickle.loads(_receive(source))
    pixels = _map(setting)
    pickle.dump("ready", target)
    target.flush()
    while message := _receive(source):
        try:
            task: _Task = pickle.loads(message)
        except Exception:  # of a class or function that only the owner's program knows
            answers = None
        else:
            answers = _decode_here(task, setting, pixels)
        pickle.dump(answers, target)
        target.flush()


def _receive(file: IO[bytes]) -> bytes:
    size = int.from_bytes(file.read(8), "little")
    return file.read(size) if size else b""
