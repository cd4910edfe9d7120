"""Text that comes from elsewhere, lists and labels alike: its encoding, its lines, the columns of its tables."""

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from kerasxfer_serving.errors import UsageError

PEEK = 1 << 16
LONGEST_LINE = 16 << 20
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATORS = (",", ";", "\t")
# Unicode's control, format and surrogate characters, and its line and paragraph separators.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MAYBE_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa1-\xac\xae-\u05ff]")


class TextTable(NamedTuple):
    """A table in text.

    Args:
        header: The first row, as it is written.
        rows: Those behind it.
    """

    header: list[str]
    rows: Iterator[list[str]]


def peekable(file: IO[bytes]) -> io.BufferedReader:
    """A binary file that can be looked into without reading on."""
    return file if isinstance(file, io.BufferedReader) else io.BufferedReader(file, PEEK)  # type: ignore[arg-type]


def encoding_of(head: bytes) -> str:
    """The encoding of a text by its first bytes: what its byte-order mark says, UTF-16 without one, or UTF-8."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        # UTF-16's marks are also what a name that is not UTF-8 may begin with; its letters have a zero byte each.
        if head.startswith(mark) and (mark == codecs.BOM_UTF8 or b"\0" in head):
            return encoding
    for encoding, zeros, line_end in (
        ("utf-16-le", head[1::2], rb"[\r\n]\0"),
        ("utf-16-be", head[::2], rb"\0[\r\n]"),
    ):
        if len(head) > 32 and re.search(line_end, head) and zeros.count(0) > 0.8 * len(zeros):
            return encoding
    return "utf-8"


def open_text(file: IO[bytes], newline: str = "") -> io.TextIOWrapper:
    """Text of a binary file, in whatever encoding; bytes that are not UTF-8 are kept, as `os.fsdecode` does.

    Args:
        file: Binary file.
        newline: As in `io.TextIOWrapper`. Defaults to `""`, ends of lines as they are.
    """
    reader = peekable(file)
    encoding = encoding_of(reader.peek(PEEK)[:PEEK])
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    return io.TextIOWrapper(reader, encoding, errors, newline=newline)


def decode_text(data: bytes) -> str:
    """The text of `data`, in whatever Unicode encoding.

    Raises:
        UnicodeError: `data` is text in none of them.
    """
    return data.decode(encoding_of(data[:PEEK]))


def read_table(file: IO[bytes], columns: Sequence[str], separator: str | None = None) -> TextTable:
    """Read a table of values separated by commas, semicolons or tabs.

    Args:
        file: Binary file.
        columns: Names, as in `find_column`, that the header is expected to have one of.
        separator: Between the cells. Defaults to `None`: what a first line `sep=;` says, as spreadsheets write it;
            else the one by which the header has one of `columns`, or which divides all of the first lines into
            equally many cells.

    Raises:
        UsageError: From the rows, where a line or a cell is longer than any table has it.
    """
    reader = peekable(file)
    sample = _first_lines(reader.peek(PEEK)[:PEEK])
    text = open_text(reader)
    if sample and (said := re.fullmatch("sep=(.)", sample[0])):
        separator = said[1]
        text.readline()
    rows = _rows(text, separator or _separator(sample, columns))
    return TextTable(next(rows, []), rows)


def find_column(header: Sequence[str], names: Sequence[str]) -> int | None:
    """The column that is called by the first of `names` that there is, whatever its case and `_`, `-` or spaces."""
    known = [_plain(cell) for cell in header]
    return next((known.index(name) for name in map(_plain, names) if name in known), None)


def printable(text: str) -> str:
    r"""Text that a terminal shows as it is: escapes, marks of direction, ends of lines and undecodable bytes escaped.

    Example:

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _MAYBE_UNPRINTABLE.sub(lambda match: _escaped(match[0]), text)


def printable_lines(text: str) -> str:
    """As `printable`, for a message of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """JSON that a terminal shows as it is: what it would take for a command is escaped as JSON does."""
    return _MAYBE_UNPRINTABLE.sub(
        lambda match: match[0] if match[0] == "\n" or _escaped(match[0]) == match[0] else json.dumps(match[0])[1:-1],
        text,
    )


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _UNPRINTABLE:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _first_lines(head: bytes, most: int = 20) -> list[str]:
    """Lines that are whole in the first bytes of a text, and the first in any case."""
    lines = head.decode(encoding_of(head), "replace").splitlines()
    return lines[: min(most, len(lines) - 1)] if len(lines) > 1 and len(head) >= PEEK else lines[:most]


def _separator(lines: Sequence[str], columns: Sequence[str]) -> str:
    tables = {separator: list(csv.reader(lines, delimiter=separator)) for separator in _SEPARATORS}
    for separator, rows in tables.items():
        if rows and len(rows[0]) > 1 and find_column(rows[0], columns) is not None:
            return separator
    for separator, rows in tables.items():
        cells = {len(row) for row in rows}
        if len(rows) > 1 and len(cells) == 1 and cells != {1}:
            return separator
    return ","


def _rows(text: io.TextIOWrapper, separator: str) -> Iterator[list[str]]:
    rows = csv.reader(_lines(text), delimiter=separator)
    try:
        yield from rows
    except csv.Error as error:
        raise UsageError(f"Line {rows.line_num:,} of the table cannot be read: {error}.") from error


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    number = 1
    try:
        while line := text.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise UsageError(f"Line {number:,} of the table has more than {LONGEST_LINE:,} characters.")
            yield line
            number += 1
    finally:
        if not text.closed:
            text.detach()  # the file, standard input maybe, is not ours to close
