"""What OUT names, a file or a folder of parts, and what may be there already."""

from pathlib import Path

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.outputs.tables import TABLES


def is_single_file(out: Path) -> bool:
    """Whether the result is one file, by its suffix; else it is a folder of parts."""
    return out.suffix[1:].lower() in TABLES


def journal_path(out: Path) -> Path:
    """Where the journal of a run is kept."""
    return out.with_name(f"{out.name}.run.jsonl") if is_single_file(out) else out / "_run.jsonl"


def make_way(out: Path, folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Remove what is to be overwritten; refuse what is in the way.

    Args:
        out: the file or folder.
        folder: where the parts are.
        resume: whether a run that is there is continued.
        overwrite: whether it is done away with.

    Raises:
        UsageError: `out` is there, and is neither to be continued nor to be overwritten.
    """
    journal = journal_path(out)
    if overwrite:
        for path in (*folder.glob("part-*"), journal, *([out] if is_single_file(out) else [])):
            path.unlink(missing_ok=True)
    elif journal.is_file():
        if not resume:
            raise UsageError(
                f"`{out}` has a run already. Continue it with `--resume`, or begin anew with `--overwrite`."
            )
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"`{out}` exists and has no journal of a run. Choose another name, or use `--overwrite`.")
