"""The models that are served, by name and version; each can be replaced while requests run."""

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.server.errors import UnknownModelError
from kerasxfer_serving.server.models import ServedModel

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

Models: TypeAlias = str | Path | Sequence[str | Path] | Mapping[str, str | Path]


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Args:
        name: What clients call it.
        path: An `.onnx` file, which is one version, or a folder of them, `<number>/model.onnx`.
        first_version: Version of the file.
    """

    name: str
    path: Path
    first_version: str = "1"

    def versions(self) -> dict[str, Path]:
        """The files that are there now, by version."""
        if not self.path.is_dir():
            return {self.first_version: self.path}
        numbered = (folder for folder in self.path.iterdir() if folder.name.isdecimal())
        return {folder.name: file for folder in numbered if (file := folder / "model.onnx").is_file()}


def as_sources(models: Models) -> list[ModelSource]:
    """What `create_app` takes, as sources with names: given ones, or those of the files.

    Raises:
        UsageError: A name that clients could not ask for, nothing at a path, or no model at all.
    """
    if isinstance(models, Mapping):
        named = [(name, Path(path)) for name, path in models.items()]
    else:
        given = [models] if isinstance(models, str | Path) else models
        named = [_split(item) for item in given]
    sources: list[ModelSource] = []
    for name, path in named:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"A model's name has letters, digits, `_`, `.` and `-`: give one with `{path}=NAME`. Received: {name!r}"
            )
        before = sum(source.name == name for source in sources)
        sources.append(ModelSource(name, path, str(before + 1)))
        if not sources[-1].versions():
            raise UsageError(f"A folder of a model holds `<number>/model.onnx`. Received: `{path}` with none.")
    if not sources:
        raise UsageError("Give at least one model: an .onnx file, or a folder of versions.")
    return sources


def _split(item: str | Path) -> tuple[str, Path]:
    """`PATH=NAME`, or a path alone, which is named after its file or folder."""
    text = str(item)
    path, equals, name = text.rpartition("=")
    if equals and not Path(text).exists():
        return name, Path(path)
    return Path(text).stem if text.endswith(".onnx") else Path(text).name, Path(text)


class Registry:
    """The served models. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, dict[str, ServedModel]] = {}

    def put(self, model: ServedModel) -> ServedModel | None:
        """Serve a model from now on; return the one it takes the place of."""
        with self._lock:
            versions = self._models.setdefault(model.name, {})
            old = versions.get(model.version)
            self._models[model.name] = versions | {model.version: model}
            return old

    def remove(self, name: str, version: str) -> ServedModel | None:
        """Serve a version no longer, and return it; the last version of a model stays."""
        with self._lock:
            versions = dict(self._models[name])
            if len(versions) == 1:
                return None
            old = versions.pop(version, None)
            self._models[name] = versions
            return old

    def find(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """A model by name, the first one without; its newest version, or the one asked for.

        Raises:
            UnknownModelError: There is none.
        """
        with self._lock:
            name = name or next(iter(self._models))
            versions = self._models.get(name)
        if versions is None:
            raise UnknownModelError(f"There is no model {name!r}. Served: {self.names()}")
        found = versions.get(version) if version else versions[max(versions, key=int)]
        if found is None:
            raise UnknownModelError(f"Model {name!r} has no version {version!r}. Served: {self.versions(name)}")
        return found

    def names(self) -> list[str]:
        """Names of the models, in the order given."""
        with self._lock:
            return list(self._models)

    def versions(self, name: str) -> list[str]:
        """Versions of a model, oldest first."""
        with self._lock:
            return sorted(self._models.get(name, ()), key=int)

    def models(self) -> Iterable[ServedModel]:
        """All versions of all models."""
        with self._lock:
            return [model for versions in self._models.values() for model in versions.values()]
