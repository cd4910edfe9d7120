"""What OUT names: one file, or a folder of parts; and where the parts and the journal of the run are."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.outputs.tables import TABLES


@dataclass(frozen=True)
class Destination:
    """Where the rows of a run go.

    Args:
        out: A file with the suffix of a table, or a folder for the parts.
        format: `"csv"`, `"jsonl"` or `"parquet"`.
    """

    out: Path
    format: str

    @classmethod
    def of(cls, out: str, format: str | None = None) -> "Destination":
        """The destination that a command line names.

        Args:
            out: A file or folder.
            format: The format asked for. Defaults to that of the file's suffix, and to parquet in a folder.

        Raises:
            UsageError: The name is neither, or the format is not that of the file.
        """
        path = Path(out)
        if path.suffix and not (is_single_file(path) or path.is_dir() or out.endswith("/")):
            raise UsageError(
                "OUT is a .csv, .jsonl or .parquet file, or a folder: an existing one, or a name without suffix, or "
                f"with a slash at its end. Received: -o {out}"
            )
        if not is_single_file(path):
            return cls(path, format or "parquet")
        suffix = path.suffix[1:].lower()
        if format not in (None, suffix):
            raise UsageError(f"`--format` must be that of OUT. Received: --format {format} -o {out}")
        return cls(path, suffix)

    @property
    def single(self) -> bool:
        """Whether the result is one file."""
        return is_single_file(self.out)

    @property
    def journal(self) -> Path:
        """The file that the journal is kept in."""
        return journal_path(self.out)

    @property
    def folder(self) -> Path:
        """The folder that the parts are written to."""
        return self.out.with_name(f"{self.out.name}.parts") if self.single else self.out

    def part(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{number:05d}.{self.format}"

    def require_free(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse what is in the way.

        Args:
            resume: Whether a run that is there is continued.
            overwrite: Whether the run or the file that is there is done away with.

        Raises:
            UsageError: There is something, and it is neither to be continued nor to be overwritten.
        """
        out = self.out
        if out.is_dir() if self.single else out.is_file():
            kinds = ("folder", "file") if self.single else ("file", "folder for the parts")
            raise UsageError(f"`{out}` is a {kinds[0]}, and the result is a {kinds[1]}. Choose another name.")
        if overwrite:
            return
        if self.journal.exists():
            if not resume:
                raise UsageError(
                    f"`{out}` already holds a run. Continue it with `--resume`, or start over with `--overwrite`."
                )
        elif out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise UsageError(f"`{out}` exists but has no journal of a run. Choose another name, or use `--overwrite`.")

    def require_apart(self, sources: Iterable[str], *, all_files: bool = False) -> None:
        """Refuse to write over what is read.

        Args:
            sources: Files and folders that are read.
            all_files: Whether every file of these folders is read, so that the result would be among them.

        Raises:
            UsageError: One of them is OUT or what a run keeps beside it, or would come to hold it.
        """
        ours = {os.path.realpath(path) for path in (self.out, self.journal, self.folder)}
        for source in sources:
            place = os.path.realpath(source)
            within = all_files and os.path.realpath(self.out).startswith(os.path.join(place, ""))  # noqa: PTH118
            if place in ours or within:
                raise UsageError(f"OUT must not be among the inputs. Received: -o {self.out}, input {source}")


def is_single_file(out: Path) -> bool:
    """Whether the result is one file, by its suffix; else it is a folder of parts."""
    return out.suffix[1:].lower() in TABLES


def journal_path(out: Path) -> Path:
    """Where the journal of a run is kept."""
    return out.with_name(f"{out.name}.run.jsonl") if is_single_file(out) else out / "_run.jsonl"
