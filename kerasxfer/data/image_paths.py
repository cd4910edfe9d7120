"""The images at a path, for what needs no labels."""

from pathlib import Path

from kerasxfer_serving.inputs.walk import LeftOut, find_images

from kerasxfer.data.tables.columns import NOTHING_SAID, TableOptions
from kerasxfer.data.tables.rows import read_paths
from kerasxfer.data.tables.source import is_table


def image_paths(
    path: Path, table: TableOptions = NOTHING_SAID, left_out: LeftOut | None = None
) -> tuple[Path, list[str]]:
    """Find the images below a folder, or those that a table names.

    Args:
        path: The folder, or file of the table.
        table: What is said about the table. Defaults to nothing.
        left_out: Counts what is no image. Defaults to `None`.

    Returns:
        The folder that paths are relative to, and the paths: sorted, or in the table's order.
    """
    if is_table(path):
        return read_paths(path, table)
    return path, sorted(find_images(path, left_out))
