"""Hot reload: a changed file is loaded, checked and warmed beside the old one, swapped in, and the old one drained."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.server.models import ServedModel
from kerasxfer_serving.server.registry import ModelSource, Registry

_LOG = logging.getLogger(__name__)
_DRAIN = 60.0

_Key: TypeAlias = tuple[str, str]
_Stamp: TypeAlias = tuple[int, int, int]


class Watcher:
    """Looks at the model files every few seconds, in a thread.

    Args:
        sources: Where the models come from.
        registry: What serves them.
        load: Opens one file as name and version.
        seconds: Between two looks. A file is loaded when two looks in a row see it the same.
    """

    def __init__(
        self,
        sources: Sequence[ModelSource],
        registry: Registry,
        load: Callable[[str, str, Path], ServedModel],
        seconds: float = 1.0,
    ) -> None:
        self._sources = sources
        self._registry = registry
        self._load = load
        self._seconds = seconds
        self._loaded = self._look()
        self._seen = dict(self._loaded)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="kerasxfer-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no longer."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.look_again()
            except Exception:
                _LOG.exception("The model files cannot be looked at; trying again")

    def look_again(self) -> None:
        """Look once, and load what has changed and settled."""
        now = self._look()
        for key, (path, stamp) in now.items():
            settled = self._seen.get(key) == (path, stamp)
            if settled and self._loaded.get(key) != (path, stamp):
                self._swap(key, path)
                self._loaded[key] = (path, stamp)
        for key in self._loaded.keys() - now.keys():
            if self._key_vanished(key):
                del self._loaded[key]
        self._seen = now

    def _swap(self, key: _Key, path: Path) -> None:
        try:
            model = self._load(*key, path)
        except KerasxferError as error:
            _LOG.error("%s version %s is not reloaded, the old one goes on: %s", *key, error)
            return
        old = self._registry.put(model)
        _LOG.info("%s version %s now serves sha256 %s", *key, model.predictor.sha256)
        self._drain(old)

    def _key_vanished(self, key: _Key) -> bool:
        """A file that was moved away for a moment stays served; the folder of a version that went is retired."""
        source = next(source for source in self._sources if source.name == key[0])
        if not source.path.is_dir():
            return False
        old = self._registry.remove(*key)
        self._drain(old)
        return old is not None

    def _drain(self, old: ServedModel | None) -> None:
        if old is not None:
            threading.Thread(target=old.drain, args=(_DRAIN,), name="kerasxfer-drain", daemon=True).start()

    def _look(self) -> dict[_Key, tuple[Path, _Stamp]]:
        found = {}
        for source in self._sources:
            try:
                for version, path in source.versions().items():
                    stat = path.stat()
                    found[source.name, version] = (path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))
            except OSError:  # between two renames there is nothing for a moment
                continue
        return found
