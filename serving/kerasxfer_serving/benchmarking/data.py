"""What is benchmarked on: images of a folder, or drawn ones."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.inputs.input import Input
from kerasxfer_serving.inputs.reader import Reader
from kerasxfer_serving.outputs.predictions import OK, Predictions

_DRAWN = 64


@dataclass
class BenchmarkImages:
    """The inputs of a benchmark, and what has been predicted for them.

    Args:
        items: The inputs.
        source: The folder they come from, or a description of drawn ones.
        drawn: Whether they were drawn.
    """

    items: list[Input]
    source: str
    drawn: bool
    answers: dict[str, tuple[str, str | None]] = field(default_factory=dict, repr=False)

    def endless(self) -> Iterator[Input]:
        """All inputs again and again."""
        while True:
            yield from self.items

    def note(self, predictions: Predictions) -> int:
        """Remember the answers; return how many images were answered."""
        rows = zip(predictions.paths, predictions.status, predictions.labels, strict=True)
        self.answers.update((path, (status, label)) for path, status, label in rows)
        return sum(status == OK for status in predictions.status)

    def accuracy(self, class_names: Sequence[str]) -> dict[str, Any] | None:
        """Share of right answers, where the images stand in folders with the names of the classes."""
        truth = {path: PurePath(path).parent.name for path, (status, _) in self.answers.items() if status == OK}
        known = {path: name for path, name in truth.items() if name in class_names}
        if self.drawn or not known:
            return None
        right = sum(self.answers[path][1] == name for path, name in known.items())
        return {"top_1": right / len(known), "pictures": len(known), "truth": "name of the folder"}

    def describe(self) -> dict[str, Any]:
        """What was read, for the report: bad ones of those that the time sufficed for; the hash is of all."""
        counts = Counter(status for status, _ in self.answers.values())
        return {
            "source": self.source,
            "drawn": self.drawn,
            "pictures": len(self.items),
            "seen": len(self.answers),
            "bad": {code: number for code, number in sorted(counts.items()) if code != OK},
            **_digest(self.items),
        }


@contextmanager
def open_images(folder: str | Path | None, limit: int, size: tuple[int, int]) -> Iterator[BenchmarkImages]:
    """Images below a folder, `limit` of them by lot; or drawn ones of `size`, (height, width)."""
    if folder is None:
        with TemporaryDirectory(prefix="kerasxfer-benchmark-") as temporary:
            paths = draw_images(Path(temporary), size)
            yield BenchmarkImages(
                list(Reader([str(path) for path in paths])), f"{len(paths)} drawn, {size[1]}×{size[0]}", True
            )
        return
    items = list(Reader([str(folder)]))
    if not items:
        raise UsageError(f"`data` must hold images. Received: data={str(folder)!r} with none")
    # Drawn by lot: a short run sees the first ones only, and those of a sorted folder are all of one class.
    yield BenchmarkImages(Random(0).sample(items, min(limit, len(items))), str(folder), False)


def draw_images(folder: Path, size: tuple[int, int], count: int = _DRAWN) -> list[Path]:
    """Write JPEG files that cost a decoder about what photographs of that size do: detail at every scale."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        image = np.zeros((*size, 3))
        for scale in (4, 16, 64, 256):
            noise = random.integers(0, 256, (max(2, size[0] // scale), max(2, size[1] // scale), 3), "uint8")
            layer = Image.fromarray(noise).resize((size[1], size[0]), Image.Resampling.BICUBIC)
            image += np.asarray(layer) * {4: 0.1, 16: 0.2, 64: 0.3, 256: 0.4}[scale]
        paths.append(folder / f"{number:03}.jpg")
        Image.fromarray(image.clip(0, 255).astype("uint8")).save(paths[-1], quality=90)
    return paths


def _digest(items: Sequence[Input]) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    for item in items:
        content = _content(item)
        size += len(content)
        digest.update(PurePath(item.path).name.encode("utf-8", "surrogateescape") + b"\0")
        digest.update(hashlib.sha256(content).digest())
    return {"bytes": size, "sha256": digest.hexdigest()}


def _content(item: Input) -> bytes:
    """The bytes of an input; none for one that cannot be read, whose name alone counts."""
    try:
        source = item.open()
        if isinstance(source, bytes):
            return source
        return Path(source).read_bytes() if Path(source).is_file() else b""  # a pipe would wait for ever
    except Exception:  # its row says what is wrong with it
        return b""
