"""Looking at, checking and clearing a cache directory."""

import contextlib
import math
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kerasxfer.bottleneck.store import LAYOUT, Shelf, remove_shard

_SECONDS_PER_DAY = 86400.0


def all_shelves(root: Path) -> Iterator[Shelf]:
    """Every set of features in a directory."""
    for path in sorted((root / LAYOUT).glob("*/")):
        yield Shelf(root, path.name)


def size(root: Path) -> int:
    """Bytes of everything in a directory."""
    total = 0
    for path in (root / LAYOUT).rglob("*"):
        with contextlib.suppress(OSError):  # another process may be at work
            total += path.stat().st_size if path.is_file() else 0
    return total


def shelves(root: Path) -> list[dict[str, Any]]:
    """What is in the cache, one row for each set of features."""
    rows = []
    for shelf in all_shelves(root):
        manifest, sidecars = shelf.manifest, shelf.sidecars()
        used = _last_used(shelf)
        rows.append(
            {
                "fingerprint": shelf.fingerprint,
                "model": manifest.get("model", "?"),
                "boundary": manifest.get("boundary", "?"),
                "shape": "x".join(map(str, manifest.get("shape", ()))),
                "dtype": manifest.get("dtype", "?"),
                "backend": manifest.get("platform", {}).get("backend", "?"),
                "rows": len(shelf.keys()),
                "shards": len(sidecars),
                "bytes": sum(sidecar.bytes for sidecar in sidecars.values()),
                "last_used": datetime.fromtimestamp(used, UTC).isoformat(timespec="seconds"),
            }
        )
    return rows


def verify(root: Path) -> list[dict[str, Any]]:
    """Damaged and unfinished shards; the damaged ones are removed, the next build computes them again."""
    found = []
    for shelf in all_shelves(root):
        complete = shelf.sidecars()
        for shard, sidecar in complete.items():
            if not shelf.sound(shard, sidecar):
                found.append({"shard": str(shard.relative_to(root)), "problem": "does not match its hash"})
        for path in sorted(shelf.path.glob("shard-*.*")):
            shard = path.with_suffix(".npy")
            if path.suffix != ".lock" and shard not in complete:
                other = path.with_suffix(".json" if path.suffix == ".npy" else ".npy")
                problem = "is cut short, or its sidecar is" if other.exists() else f"has no {other.suffix} beside it"
                found.append({"shard": str(path.relative_to(root)), "problem": problem})
    return found


def collect(root: Path, budget: float = math.inf, older_than: float | None = None) -> list[dict[str, Any]]:
    """Remove leftovers of dead builders, then shelves by age and until the rest fits the budget."""
    removed = []
    for shelf in all_shelves(root):
        removed += [{"removed": str(path.relative_to(root)), "why": "unfinished"} for path in _sweep(shelf)]
    oldest_first = sorted(all_shelves(root), key=_last_used)
    total = size(root)
    for shelf in oldest_first:
        days = (time.time() - _last_used(shelf)) / _SECONDS_PER_DAY
        why = None
        if not shelf.sidecars():
            why = "empty"
        elif older_than is not None and days > older_than:
            why = f"not used for {days:.0f} days"
        elif total > budget:
            why = "over the budget"
        if why:
            total -= sum(path.stat().st_size for path in shelf.path.iterdir())
            shutil.rmtree(shelf.path)
            removed.append({"removed": shelf.fingerprint, "why": why})
    return removed


def _sweep(shelf: Shelf) -> Iterator[Path]:
    """Remove temporary files, shards without sidecar and the like, but not what a living builder is writing."""
    complete = shelf.sidecars()
    for path in [*shelf.path.glob(".*.tmp"), *shelf.path.glob("shard-*.*")]:
        shard = shelf.path / f"{path.name.lstrip('.').split('.')[0]}.npy"
        if path.suffix != ".tmp" and shard in complete and path.suffix != ".lock":
            continue
        lock = FileLock(shard.with_suffix(".lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        try:
            if path.suffix == ".npy" or path.suffix == ".json":
                remove_shard(shard)
            else:
                path.unlink(missing_ok=True)
            yield path
        finally:
            lock.release()
            shard.with_suffix(".lock").unlink(missing_ok=True)


def _last_used(shelf: Shelf) -> float:
    manifest = shelf.path / "manifest.json"
    return (manifest if manifest.exists() else shelf.path).stat().st_mtime
