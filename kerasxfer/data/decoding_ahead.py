"""Decodes batches of images in threads, ahead of their use."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from kerasxfer_serving.errors import ImageError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.runtime.resources import available_cores
from numpy.typing import NDArray

from kerasxfer.data.image_files import BadImage

# In draft mode the decoder reads all of a JPEG's data, and so finds the same faults, and skips most of the arithmetic.
_QUICK = ImagePolicy(draft=True)


def check_images(root: Path, paths: Iterable[str], threads: int | None = None) -> Iterator[BadImage | None]:
    """Decode every image once.

    Args:
        root: Folder that `paths` are relative to.
        paths: Paths of the images.
        threads: Number of threads. Defaults to `None`, one for each CPU of this process.

    Yields:
        For each image, in the order of `paths`, what is wrong with it, or `None`.
    """

    def check(path: str) -> BadImage | None:
        try:
            _QUICK.load(root / path, (8, 8))
        except ImageError as error:
            return BadImage(path, error.code, str(error))
        return None

    with ThreadPoolExecutor(threads or available_cores()) as pool:
        yield from pool.map(check, paths)


class PendingBatch:
    """A batch that threads are decoding.

    Args:
        images: Where the images go, `[n, height, width, 3]`.
        futures: One for each image.
    """

    def __init__(self, images: NDArray[Any], futures: Sequence[Future[None]]) -> None:
        self._images = images
        self._futures = futures

    def result(self) -> NDArray[Any]:
        """Wait for the images; raises the first one's `ImageError`."""
        try:
            for future in self._futures:
                future.result()
        finally:
            self.cancel()
        return self._images

    def cancel(self) -> None:
        """Drop what no thread has begun."""
        for future in self._futures:
            future.cancel()


class BatchDecoder:
    """A pool of threads that decode images of one folder to one size.

    Pillow releases Python's lock while it decodes and resizes, so threads use all CPUs.

    Args:
        root: Folder that paths are relative to.
        image_size: `(height, width)` in pixels.
        policy: How a file becomes pixels.
        threads: Number of decoding threads.
    """

    def __init__(self, root: Path, image_size: tuple[int, int], policy: ImagePolicy, threads: int) -> None:
        self.root = root
        self.image_size = image_size
        self.policy = policy
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def submit(
        self, paths: Sequence[str], finish: Callable[[int, NDArray[np.uint8]], Any] | None = None
    ) -> PendingBatch:
        """Begin to decode a batch.

        Args:
            paths: One for each image.
            finish: Makes float32 pixels of a position in the batch and its image. Defaults to `None`: the
                batch is uint8 `[n, height, width, 3]`.
        """
        images: NDArray[Any] = np.empty((len(paths), *self.image_size, 3), "uint8" if finish is None else "float32")

        def decode(position: int, path: str) -> None:
            pixels = self.policy.load(self.root / path, self.image_size)
            images[position] = pixels if finish is None else finish(position, pixels)

        pool = self._threads()
        return PendingBatch(images, [pool.submit(decode, *item) for item in enumerate(paths)])

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="kerasxfer-decode")
            return self._pool

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
