"""How work is divided among many machines: by files and bytes, whatever folders the files lie in.

A chunk is what a model predicts at a time: whole batches, the very ones that a single machine would make, so that the
answers are the same to the last bit. A piece is what a worker decodes at a time: few files, or fewer large ones.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from typing import Any

from kerasxfer_serving.inputs.input import Input, size_of
from kerasxfer_serving.outputs.predictions import Predictions
from kerasxfer_serving.runtime.resources import batched

CHUNK_FILES = 64
PIECE_FILES = 32
PIECE_BYTES = 16 << 20
_UNKNOWN_BYTES = 1 << 20
_LOOKING_UP = 16  # at once: on a network file system a look-up is a round trip


@dataclass(eq=False)
class Piece:
    """Inputs that are decoded together.

    Attributes:
        items: The inputs.
        deaths: How often a worker died over them.
        images: What decoding gave, or a reference to it; `None` until then.
        seconds: Spent decoding.
        node: Where they were decoded.
    """

    items: list[Input]
    deaths: int = 0
    images: Any = None
    seconds: float = 0.0
    node: str = ""

    def halves(self) -> list["Piece"]:
        """Two pieces, each to be cut again at its first death."""
        middle = len(self.items) // 2
        return [Piece(self.items[:middle], 1), Piece(self.items[middle:], 1)]


@dataclass(eq=False)
class Chunk:
    """Inputs that are predicted together.

    Attributes:
        pieces: Their division, in order.
        failures: How often predicting them failed.
        predictions: The answers; `None` until then.
    """

    pieces: list[Piece]
    failures: int = 0
    predictions: Predictions | None = field(default=None, repr=False)

    @property
    def paths(self) -> list[str]:
        """What the inputs are called."""
        return [item.path for piece in self.pieces for item in piece.items]

    @property
    def decoded(self) -> bool:
        """Whether all pieces are decoded."""
        return all(piece.images is not None for piece in self.pieces)

    def bisect(self, piece: Piece) -> list[Piece]:
        """Put two halves in the place of a piece, and return them."""
        place = self.pieces.index(piece)
        self.pieces[place : place + 1] = halves = piece.halves()
        return halves


def divide(inputs: Iterable[Input], batch_size: int) -> Iterator[Chunk]:
    """Chunks of inputs, in order.

    Args:
        inputs: Taken from the iterator only as chunks are.
        batch_size: Images in one run of the model; each chunk holds whole batches, but for the last.
    """
    files = batch_size * -(-CHUNK_FILES // batch_size)
    with ThreadPool(_LOOKING_UP) as pool:
        for items in batched(inputs, files):
            yield Chunk([Piece(part) for part in _by_bytes(items, pool.map(size_of, items))])


def is_here(item: Input) -> bool:
    """Whether an input is a file that this machine has."""
    return item.size is None and size_of(item) is not None


def _by_bytes(items: list[Input], sizes: list[int | None]) -> Iterator[list[Input]]:
    part: list[Input] = []
    total = 0
    for item, size in zip(items, sizes, strict=True):
        size = _UNKNOWN_BYTES if size is None else size
        if part and (len(part) == PIECE_FILES or total + size > PIECE_BYTES):
            yield part
            part, total = [], 0
        part.append(item)
        total += size
    if part:
        yield part
