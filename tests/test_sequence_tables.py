"""Tables of numbers as text, as people write them, and errors in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sequences import (
    opened,
    refused,
    text,
    whole,
)

from lstmstate import limits


@pytest.mark.parametrize(
    "content",
    [
        "1,2,3\n4,5,6\n",
        "1,2,3\r\n4,5,6\r\n",
        "1,2,3\r4,5,6",
        "\ufeff1,2,3\n4,5,6\n\n\n",
        "a,b,c\n1,2,3\n4,5,6",
        '"a","b, or c","d"\n"1",2,3\n4,5,"6"\n',
        "# first\n# a b c\n\n1,2,3\n4,5,6\n",
        "#\n x , y , z \n 1 , 2 , 3 \n4,5,6\n",
        "1\t2\t3\n4\t5\t6\n",
        "1;2;3\n4;5;6\n",
        "1 2  3\n  4 5 6\n",
        "1e0,+2.,3.0E+00\n4,5,06\n",
        "größe,b,c\n1,2,3\n4,5,6\n".encode("latin-1"),
    ],
)
@pytest.mark.parametrize("name", ["x.csv", "x.TSV"])
def test_tables_are_read_as_people_write_them(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    found = opened(text(tmp_path / name, content))
    assert whole(found)[:, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", 'day,x,"y, z",x x\nmon,1,2,3\n"tue, too",4,5,6\n')
    for place, expected in {
        "x": [[1], [4]],
        "x x,x": [[3, 1], [6, 4]],
        "y, z": [[2], [5]],
        " x , x x ": [[1, 3], [4, 6]],
    }.items():
        found = opened(f"{path}:{place}", len(expected[0]))
        assert whole(found)[:, 0].tolist() == expected
    words = "row 1 (line 2 of the file) holds 'mon', which is not a number, in column 1 (day)"
    refused(path, f"{words}; pick the columns of numbers: FILE:a,b")
    refused(f"{path}:x,w", "w: there is no such column; there are: day, x, y, z, x x")
    refused(f"{path}:day", "holds 'mon'", 1)
    refused(f"{path}:x", "its shape is [2, 1], and rnn/lstm_cell takes [batch, time, 3]")


def test_columns_that_are_too_many_are_named(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", "t,x,y,z\n0,1,2,3\n")
    refused(path, "pick columns by their names, FILE:a,b: t, x, y, z")


def test_ambiguous_columns_are_refused(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", "x,x,y\n1,2,3\n")
    refused(f"{path}:x", "2 columns have this name", 1)
    path = text(tmp_path / "y.csv", "1,2,3\n")
    refused(f"{path}:x", "its columns have no names; pick them by their numbers from 0", 1)
    refused(f"{path}:3", "its columns have no names", 1)
    assert whole(opened(f"{path}:2,0", 2))[:, 0].tolist() == [[3, 1]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1,2,3\n4,5\n", "row 2 (line 2 of the file) has 2 fields, and the first line 3"),
        ("a,b,c\n1,2\n4,5\n", "row 1 (line 2 of the file) has 2 fields, and the first line 3"),
        ("#\n1,2,3\n4,,6\n", "row 2 (line 3 of the file) has an empty field, in column 2"),
        (
            "1,2,3\n4,5,x\n",
            "row 2 (line 2 of the file) holds 'x', which is not a number, in column 3",
        ),
        ("t,1,2\n4,5,6\n", "its first row, t,1,2, may be a header or data"),
        (",0.5,1\n0,5,6\n", "row 1 (line 1 of the file) has an empty field, in column 1"),
        ("1,2,3\n#4,5,6\n", "holds '#4'"),
        ("1,2,3\n4,5,6,\n", "has 4 fields"),
        ("1,2,3\n\n4,5,6\n", "line 2 is empty; remove it, or put numbers there"),
        ("1,2,3\n1+2j,2,3\n", "holds '1+2j'"),
        ("1,2,3\n1_0,2,3\n", "holds '1_0'"),
        ("1,2,3\n0x10,2,3\n", "holds '0x10'"),
        ("1,2,3\n__import__('os'),2,3\n", "holds \"__import__('os')\""),
        ("1,2,3\n\u0661,2,3\n", "which is not a number"),
        ('1,2,3\n"4,5,6\n', "fields"),
        ("1,2,3\n\x1b[31m,5,6\n", "x1b"),
        ("1,5;2,5;3,5\n", "holds '5;2'"),
        ("a,b,c\n", "there are no steps in it: its shape is [0, 3]"),
        ("\n\n", ""),
        ("# a\n", ""),
        ("1,2,3\n".encode("utf-16"), "expected a text in UTF-8"),
    ],
)
def test_errors_in_a_table_name_the_row(tmp_path: Path, content: str | bytes, words: str) -> None:
    refused(text(tmp_path / "x.csv", content), words)


def test_rows_with_missing_fields_are_reported_if_columns_are_chosen(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", "a,b,c\n1,2,3\n4,5\n")
    refused(f"{path}:a,b", "row 2 (line 3 of the file) has 2 fields", 2)


def test_a_table_over_the_limit_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = text(tmp_path / "x.csv", "1,2,3\n" * 10)
    monkeypatch.setattr(limits, "MAX_TABLE_BYTES", 59)
    refused(path, "a table of 60 bytes is not read as text; save it as an .npy")
