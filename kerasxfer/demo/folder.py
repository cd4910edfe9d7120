"""The folder that the demo fills: known by its mark, discarded file by file."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kerasxfer_serving import __version__
from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.files import write_atomically, writing

from kerasxfer import BottleneckCache
from kerasxfer.demo.images import TASK_CLASSES
from kerasxfer.runs.run_folder import RunFolder


class DemoFolder:
    """Where everything of a demo lies.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark = path / "demo.json"
        self.images = path / "pictures"
        self.cache = path / "cache"
        self.transfer = RunFolder(path / "transfer")
        self.scratch = RunFolder(path / "scratch")
        self.predictions = path / "predictions.png"
        self.report = path / "report.html"
        self.summary = path / "summary.md"
        self.figures = path / "summary.json"

    def prepare(self, overwrite: bool) -> None:
        """Make the folder, empty but for its mark; of what is there, only an earlier demo is ever discarded.

        Raises:
            KerasxferError: There are other files, or a demo that is not to be overwritten.
        """
        if self.path.exists() and not (self.path.is_dir() and self._is_empty_or_demo()):
            raise KerasxferError(
                f"`--out` must be missing, empty or an earlier demo. Received: '{self.path}', other files"
            )
        if self.mark.is_file():
            if not overwrite:
                raise KerasxferError(
                    f"'{self.path}' holds a demo. Discard it with `--overwrite`, or choose another `--out`."
                )
            self.discard()
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.mark, json.dumps({"kerasxfer_demo": __version__}) + "\n")

    def discard(self) -> None:
        """Remove what a demo has written, and the folders that nothing else is in."""
        for run in (self.transfer, self.scratch):
            run.discard()
        if self.cache.is_dir():
            BottleneckCache(self.cache, verbose=0).gc(budget=0)
        for path in (self.predictions, self.report, self.summary, self.figures, *self._drawn(), self.mark):
            path.unlink(missing_ok=True)
        for folder in sorted((path for path in self.path.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):  # there is something in it
                folder.rmdir()

    def _is_empty_or_demo(self) -> bool:
        if not any(self.path.iterdir()):
            return True
        try:
            return "kerasxfer_demo" in json.loads(self.mark.read_text("utf-8"))
        except (OSError, ValueError, TypeError):
            return False

    def _drawn(self) -> Iterator[Path]:
        for name in TASK_CLASSES:
            yield from self.images.glob(f"*/{name}/{name}-[0-9]*.png")
