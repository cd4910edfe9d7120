"""Lists of images: paths in lines, behind NUL characters, or in a column of a table."""

import io
import os
from collections.abc import Iterator
from typing import IO

from kerasxfer_serving.inputs.text import PEEK, encoding_of, find_column, open_text, peekable, read_table

LIST_SUFFIXES = frozenset({".txt", ".csv", ".tsv"})
LONGEST_NAME = 1 << 16
"""Characters that a path or URL has at most. Of a longer line only the beginning is read."""

PATH_COLUMNS = (
    "path",
    "filename",
    "file",
    "image",
    "url",
    "filepath",
    "image_path",
    "image_file",
    "image_filename",
    "image_name",
    "image_filepath",
    "image_file_path",
    "image_file_name",
    "image_url",
    "img",
    "img_path",
    "img_file",
    "img_name",
    "img_url",
    "uri",
    "image_uri",
    "photo",
    "picture",
)
"""Names of the column that holds paths, the first that is there; case, `_`, `-` and spaces make no difference."""


def read_list(file: IO[bytes], kind: str) -> Iterator[str]:
    """Paths in a list.

    Args:
        file: Binary file, in UTF-8, or UTF-16 or UTF-32. Names that are not UTF-8 keep their bytes.
        kind: `"txt"`: one path a line, or separated by NUL as `find -print0` does; `"csv"` or `"tsv"`: a column of
            `PATH_COLUMNS` in a table with a header, else the first column.

    Yields:
        Paths; of one with more than `LONGEST_NAME` characters, some more than these.
    """
    reader = peekable(file)
    if kind != "txt":
        return _column(reader, "\t" if kind == "tsv" else None)
    head = reader.peek(PEEK)[:PEEK]
    if b"\0" in head and encoding_of(head) == "utf-8":
        return _between_nuls(reader)
    return _lines(reader, _line_end(head))


def _line_end(head: bytes) -> str:
    """What ends a line; a name may hold a carriage return."""
    text = head.decode(encoding_of(head), "replace")
    return "\r" if "\r" in text and "\n" not in text else "\n"


def _lines(reader: io.BufferedReader, end: str) -> Iterator[str]:
    text = open_text(reader, newline=end)
    try:
        while line := text.readline(LONGEST_NAME + 1):
            rest = line
            while rest and not rest.endswith(end):  # the end of a line too long, or of the file
                rest = text.readline(LONGEST_NAME + 1)
            if name := line.rstrip("\r\n"):
                yield name
    finally:
        text.detach()  # the file, standard input maybe, is not ours to close


def _between_nuls(reader: io.BufferedReader) -> Iterator[str]:
    rest = b""
    while block := reader.read1(PEEK):
        *whole, rest = (rest + block).split(b"\0")
        yield from (os.fsdecode(name) for name in whole if name)
        rest = rest[: LONGEST_NAME + 1]
    if rest:
        yield os.fsdecode(rest)


def _column(reader: io.BufferedReader, separator: str | None) -> Iterator[str]:
    table = read_table(reader, PATH_COLUMNS, separator)
    column = find_column(table.header, PATH_COLUMNS)
    if column is None:
        column = 0
        yield from table.header[:1]
    yield from (row[column] for row in table.rows if len(row) > column and row[column])
