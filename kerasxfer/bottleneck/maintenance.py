"""Looking at, checking and clearing a cache directory. Whatever in it was not made by a cache is left alone."""

import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kerasxfer.bottleneck.errors import CacheError
from kerasxfer.bottleneck.store import Shelf, all_shelves, size_of_all

_SECONDS_PER_DAY = 86400.0


def shelves(root: Path) -> list[dict[str, Any]]:
    """What is in the cache, one row for each set of features."""
    rows = []
    for shelf in all_shelves(root):
        manifest, shards = shelf.manifest, shelf.shards()
        rows.append(
            {
                "fingerprint": shelf.fingerprint,
                "model": manifest["model"],
                "boundary": manifest["boundary"],
                "shape": "x".join(map(str, manifest["shape"])),
                "dtype": manifest["dtype"],
                "backend": manifest["platform"].get("backend", "?"),
                "rows": len({key for shard in shards for key in shard.keys}),
                "shards": len(shards),
                "bytes": sum(shard.bytes for shard in shards),
                "last_used": datetime.fromtimestamp(_last_used(shelf), UTC).isoformat(timespec="seconds"),
            }
        )
    return rows


def verify(root: Path) -> list[dict[str, Any]]:
    """Damaged and unfinished shards; the damaged ones are removed, the next build computes them again."""
    found = []
    for shelf in all_shelves(root):
        for shard in shelf.shards():
            if not shelf.keep_if_sound(shard, fresh=True):
                found.append({"shard": str(shard.path.relative_to(root)), "problem": "does not match its hash"})
        for path in shelf.leftovers():
            if path.suffix in (".npy", ".json"):
                other = path.with_suffix(".json" if path.suffix == ".npy" else ".npy")
                problem = "does not fit its sidecar" if other.exists() else f"has no {other.suffix} beside it"
                found.append({"shard": str(path.relative_to(root)), "problem": problem})
    return found


def collect(root: Path, budget: float = math.inf, older_than: float | None = None) -> list[dict[str, Any]]:
    """Remove leftovers of dead builders, then shelves by age and until the rest fits the budget.

    A shelf at which a builder is at work stays as it is.

    Raises:
        CacheError: If a shelf cannot be removed; the others are.
    """
    removed, stuck = [], []
    idle = [shelf for shelf in all_shelves(root) if not shelf.is_being_built()]
    for shelf in idle:
        gone = shelf.remove(shelf.leftovers())
        removed += [{"removed": str(path.relative_to(root)), "why": "unfinished"} for path in gone]
    total = size_of_all(root)
    for shelf in sorted(idle, key=_last_used):
        why = _why_removed(shelf, older_than, over_budget=total > budget)
        if why:
            size_before = shelf.size()
            if shelf.clear():
                removed.append({"removed": shelf.fingerprint, "why": why})
            else:
                stuck.append(str(shelf.path))
            total -= size_before - shelf.size()
    if stuck:
        paths = ", ".join(f"`{path}`" for path in stuck)
        raise CacheError(
            f"{paths} cannot be removed: change the permissions, and collect again. Removed: {len(removed)}."
        )
    return removed


def _why_removed(shelf: Shelf, older_than: float | None, *, over_budget: bool) -> str | None:
    days = (time.time() - _last_used(shelf)) / _SECONDS_PER_DAY
    if not shelf.shards():
        return "empty"
    if older_than is not None and days > older_than:
        return f"not used for {days:.0f} days"
    return "over the budget" if over_budget else None


def _last_used(shelf: Shelf) -> float:
    try:
        return (shelf.path / "manifest.json").stat().st_mtime
    except OSError:  # another process has removed it
        return 0.0
