"""A table of decisions about images, as `kerasxfer audit` writes it and a person fills it in."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from kerasxfer_serving.errors import KerasxferError, UsageError
from kerasxfer_serving.inputs.text import find_column, printable, read_table
from numpy.typing import NDArray

from kerasxfer.data.image_files import class_name
from kerasxfer.data.image_rows import ImageRows

COLUMNS = ("path", "problem", "suggestion", "decision")
"""The columns of the table."""

_LABEL = "label:"


@dataclass(frozen=True)
class Decisions:
    """What is to be done about images.

    Args:
        source: The table, for messages.
        excluded: Absolute paths of the images to leave out.
        labels: Other labels, by absolute path.
        undecided: Number of rows without a decision.
    """

    source: Path
    excluded: frozenset[str]
    labels: dict[str, str]
    undecided: int

    @classmethod
    def read(cls, source: str | os.PathLike[str]) -> "Decisions":
        """Read a table of decisions.

        Its column `decision` says `exclude`, `label: NAME`, `keep`, or nothing. An image that is excluded for one
        reason is excluded. Paths are absolute, or relative to the current folder.

        Args:
            source: A CSV file, or what a spreadsheet makes of one.

        Raises:
            UsageError: The table has no such columns, or a row says something else.
        """
        source = Path(source)
        excluded: set[str] = set()
        labels: dict[str, str] = {}
        undecided = 0
        for number, path, decision in _rows(source):
            name = os.path.abspath(path)  # noqa: PTH100  (links stay links: they are named, not what they lead to)
            if not decision:
                undecided += 1
            elif decision == "exclude":
                excluded.add(name)
            elif decision.startswith(_LABEL):
                label = class_name(decision.removeprefix(_LABEL).strip())
                if labels.setdefault(name, label) != label:
                    raise UsageError(
                        f"'{source}' gives '{printable(path)}' two labels, '{labels[name]}' and '{label}': keep one."
                    )
            elif decision != "keep":
                raise UsageError(
                    f"A decision is `exclude`, `label: NAME`, `keep`, or nothing. Received: "
                    f"'{printable(decision)}' in row {number} of '{source}'"
                )
        return cls(source, frozenset(excluded), labels, undecided)

    def applied(self, rows: ImageRows) -> ImageRows:
        """The rows that are left, with the labels that were decided on.

        Args:
            rows: Images of one label each, or of several where no decision gives another label.

        Raises:
            KerasxferError: A label is none of the classes, or no image of the table is where its path says.
        """
        names = self._names(rows)
        labels = rows.labels.copy()
        known = {name: number for number, name in enumerate(rows.class_names)}
        for row, name in enumerate(names):
            if name not in self.labels or name in self.excluded:
                continue
            if labels.ndim > 1:
                raise KerasxferError(
                    f"'{self.source}' gives '{printable(rows.paths[row])}' another label, and images have several "
                    "here: change them in the table of labels."
                )
            if self.labels[name] not in known:
                raise KerasxferError(
                    f"'{self.source}' gives '{printable(rows.paths[row])}' a label that is none of the classes: "
                    f"'{self.labels[name]}'. The classes are {', '.join(rows.class_names)}."
                )
            labels[row] = known[self.labels[name]]
        return replace(rows, labels=labels).take(self.kept(rows))

    def kept(self, rows: ImageRows) -> NDArray[np.bool_]:
        """Which rows are not excluded, `[images]`.

        Raises:
            KerasxferError: No image of the table is where its path says.
        """
        names = self._names(rows)
        decided = [*self.excluded, *self.labels]
        if decided and not self.excluded.union(self.labels).intersection(names):
            self._refuse_elsewhere(decided)
        return np.array([name not in self.excluded for name in names], bool)

    def _names(self, rows: ImageRows) -> list[str]:
        """Absolute paths of images."""
        folder = os.path.abspath(rows.root)  # noqa: PTH100
        return [os.path.normpath(os.path.join(folder, path)) for path in rows.paths]  # noqa: PTH118

    def _refuse_elsewhere(self, decided: Sequence[str]) -> None:
        """Decisions about other folders are none of this one's; those about files that are nowhere are a mistake."""
        if not any(map(os.path.exists, decided)):
            raise KerasxferError(
                f"None of the {len(decided)} images that '{self.source}' decides about is there, as "
                f"'{printable(decided[0])}'. Paths are relative to the folder that the audit was run in: go there."
            )


def _rows(source: Path) -> list[tuple[int, str, str]]:
    try:
        file = source.open("rb")
    except OSError as error:
        raise UsageError(f"'{source}' cannot be read: {error.strerror or error}") from error
    with file:
        table = read_table(file, COLUMNS)
        columns = [find_column(table.header, (name,)) for name in ("path", "decision")]
        path, decision = columns
        if path is None or decision is None:
            raise UsageError(
                f"A table of decisions has the columns {', '.join(COLUMNS)}. Received: '{source}', whose first row is "
                f"{table.header}"
            )
        return [
            (number, row[path], row[decision].strip() if len(row) > decision else "")
            for number, row in enumerate(table.rows, start=2)
            if len(row) > path and row[path]
        ]
