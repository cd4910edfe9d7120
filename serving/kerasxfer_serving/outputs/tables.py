"""Tables of predictions in files: CSV, JSON lines and Parquet, written row by row and joined part by part."""

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.model.task import SEPARATOR

Row = Mapping[str, Any]
_CSV_SPECIAL = re.compile('[",\r\n]')
_FORMULA_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r", "\n")
_ROW_GROUP_VALUES = 1 << 20
_LONGEST_HEADER = 1 << 16


class Table(Protocol):
    """A table being written to a binary file, which `close` leaves open."""

    def __init__(self, file: IO[bytes], columns: Mapping[str, str]) -> None: ...

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write what is buffered, and the end of the table."""

    @staticmethod
    def join(parts: Sequence[Path], file: IO[bytes], columns: Mapping[str, str]) -> None:
        """Write one table with the rows of all parts."""

    @staticmethod
    def is_of(file: IO[bytes], columns: Mapping[str, str]) -> bool:
        """Whether a file begins as a table with these columns does."""


class CsvTable:
    """CSV in UTF-8. File names that are not UTF-8 keep their bytes.

    A list of numbers is written as JSON within its cell; one of labels has `|` between them.
    """

    def __init__(self, file: IO[bytes], columns: Mapping[str, str]) -> None:
        self._file = file
        self._columns = dict(columns)
        self._write_line(self._columns)

    def write(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._write_line(_joined(row.get(name), kind) for name, kind in self._columns.items())

    def close(self) -> None:
        pass

    def _write_line(self, values: Iterable[Any]) -> None:
        self._file.write(_csv_line(values))

    @staticmethod
    def join(parts: Sequence[Path], file: IO[bytes], columns: Mapping[str, str]) -> None:
        CsvTable(file, columns).close()
        for part in parts:
            with part.open("rb") as source:
                source.readline()  # no column has a line break in its name
                shutil.copyfileobj(source, file)

    @staticmethod
    def is_of(file: IO[bytes], columns: Mapping[str, str]) -> bool:
        return file.readline(_LONGEST_HEADER) == _csv_line(columns)


class JsonlTable:
    """One JSON object a line."""

    def __init__(self, file: IO[bytes], columns: Mapping[str, str]) -> None:
        self._file = file
        self._columns = tuple(columns)

    def write(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._file.write(_json_line({name: row.get(name) for name in self._columns}))

    def close(self) -> None:
        pass

    @staticmethod
    def join(parts: Sequence[Path], file: IO[bytes], columns: Mapping[str, str]) -> None:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)

    @staticmethod
    def is_of(file: IO[bytes], columns: Mapping[str, str]) -> bool:
        return file.readline(_LONGEST_HEADER).startswith(f"{{{json.dumps(next(iter(columns)))}: ".encode())


class ParquetTable:
    """Parquet, zstd-compressed. It holds UTF-8 only: other bytes of file names are written as backslash, x, hex."""

    def __init__(self, file: IO[bytes], columns: Mapping[str, str]) -> None:
        pa, pq = _pyarrow()
        kinds = {"string": pa.string(), "float": pa.float32(), "integer": pa.int32()}
        kinds |= {"strings": pa.list_(pa.string()), "floats": pa.list_(pa.float32())}
        self._schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[Row] = []
        self._values = 0

    def write(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._rows.append(row | {"path": _utf8(row["path"]), "message": _utf8(row["message"])})  # type: ignore[operator]
            self._values += sum(len(value) if isinstance(value, list) else 1 for value in row.values())
        if self._values >= _ROW_GROUP_VALUES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._values = [], 0

    @staticmethod
    def join(parts: Sequence[Path], file: IO[bytes], columns: Mapping[str, str]) -> None:
        _, pq = _pyarrow()
        table = ParquetTable(file, columns)
        for part in parts:
            for batch in pq.ParquetFile(part).iter_batches():
                table._writer.write_batch(batch)
        table.close()

    @staticmethod
    def is_of(file: IO[bytes], columns: Mapping[str, str]) -> bool:
        pa, pq = _pyarrow()
        try:
            return bool(pq.read_schema(file).names == list(columns))
        except (pa.ArrowException, OSError):
            return False


TABLES: dict[str, type[Table]] = {"csv": CsvTable, "jsonl": JsonlTable, "parquet": ParquetTable}


def without_formulas(row: Row) -> Row:
    """A row whose text no spreadsheet takes for a formula: what begins like one begins with an apostrophe instead."""
    return {name: _without_formula(value) for name, value in row.items()}


def _without_formula(value: Any) -> Any:
    match value:
        case str() if value.startswith(_FORMULA_BEGINNINGS):
            return f"'{value}"
        case [str() as first, *rest]:
            return [_without_formula(first), *rest]
    return value


def _joined(value: Any, kind: str) -> Any:
    return SEPARATOR.join(value) if kind == "strings" and value is not None else value


def _csv_line(values: Iterable[Any]) -> bytes:
    return (",".join(map(_csv_cell, values)) + "\n").encode("utf-8", "surrogateescape")


def _csv_cell(value: Any) -> str:
    """The standard library's `csv` leaves a carriage return bare when lines end with a line feed alone."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return '"' + text.replace('"', '""') + '"' if _CSV_SPECIAL.search(text) else text


def _json_line(row: Row) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a file name that is not UTF-8; JSON's escapes can hold it
        return json.dumps(row).encode() + b"\n"


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow: `pip install 'kerasxfer-serving[parquet]'`.") from None
    return pyarrow, pyarrow.parquet
