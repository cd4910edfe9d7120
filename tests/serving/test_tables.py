import csv
import io
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kerasxfer_serving.outputs.tables import TABLES

COLUMNS = {"path": "string", "message": "string", "probability": "float", "width": "integer", "features": "floats"}
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "path": TEXT,
            "message": TEXT,
            "probability": st.none() | st.floats(0, 1, width=32),
            "width": st.none() | st.integers(1, 1 << 20),
            "features": st.none() | st.lists(st.floats(-9, 9, width=32), max_size=3),
        }
    ),
    max_size=5,
)


def write(format, rows, path):
    with path.open("wb") as file:
        table = TABLES[format](file, COLUMNS)
        table.write(rows)
        table.close()
    return path


def read(format, path):
    if format == "csv":
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return [_from_text(row) for row in csv.DictReader(file)]
    if format == "jsonl":
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(path).to_pylist()


def _from_text(row):
    number = float(row["probability"]) if row["probability"] else None
    return row | {
        "probability": number,
        "width": int(row["width"]) if row["width"] else None,
        "features": json.loads(row["features"]) if row["features"] else None,
    }


def same(ours, theirs):
    assert all(list(row) == list(COLUMNS) for row in ours)
    for one, other in zip(ours, theirs, strict=True):
        assert one | {"probability": None} == other | {"probability": None}
        assert (one["probability"] is None) == (other["probability"] is None)
        if one["probability"] is not None:
            assert math.isclose(one["probability"], other["probability"], rel_tol=1e-6)


@pytest.mark.parametrize("format", TABLES)
def test_rows_come_back(format, tmp_path):
    @settings(max_examples=60)
    @given(ROWS)
    def check(rows):
        same(read(format, write(format, rows, tmp_path / "t")), rows)

    check()


@pytest.mark.parametrize("format", TABLES)
def test_joined_parts_are_the_table_in_one(format, tmp_path):
    @settings(max_examples=30)
    @given(st.lists(ROWS, max_size=3))
    def check(parts):
        files = [write(format, rows, tmp_path / f"{index}") for index, rows in enumerate(parts)]
        with (tmp_path / "joined").open("wb") as file:
            TABLES[format].join(files, file, COLUMNS)
        same(read(format, tmp_path / "joined"), [row for rows in parts for row in rows])

    check()


@pytest.mark.parametrize(
    ("format", "expected"), [("csv", "a\udcff.jpg"), ("jsonl", "a\udcff.jpg"), ("parquet", "a\\xff.jpg")]
)
def test_a_name_that_is_not_utf_8(format, expected, tmp_path):
    row = {"path": "a\udcff.jpg", "message": "'a\udcff.jpg'", "probability": 0.5, "width": 1, "features": None}
    path = write(format, [row], tmp_path / "t")
    assert read(format, path)[0]["path"] == expected
    if format == "csv":
        assert b"a\xff.jpg" in path.read_bytes()


def test_csv_has_its_header_even_without_rows(tmp_path):
    assert write("csv", [], tmp_path / "t").read_text() == "path,message,probability,width,features\n"


def test_many_rows_make_several_row_groups(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("kerasxfer_serving.outputs.tables._ROW_GROUP_VALUES", 50)
    row = {"path": "a", "message": "", "probability": 0.5, "width": 1, "features": [1.0, 2.0]}
    file = io.BytesIO()
    table = TABLES["parquet"](file, COLUMNS)
    for _ in range(10):
        table.write([row] * 3)
    table.close()
    assert parquet.ParquetFile(file).num_row_groups == 4
    assert parquet.ParquetFile(file).metadata.num_rows == 30
