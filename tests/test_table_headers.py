"""Headers and indexes of tables as pandas and others write them, and ambiguous ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import SUNSPOTS, Array, Shell, checkpoint, error, lstm_cell, notes, numbers, saved
from sequences import opened, refused, text, whole

import lstmstate

VALUES = np.array([[0.5, -1.25, 2.0], [3.0, 4.25, 1e-9], [0.25, 8.5, -7.75]])
ROWS = ["0.5,-1.25,2.0", "3.0,4.25,1e-09", "0.25,8.5,-7.75"]  # as pandas writes them
INDEX = "the first column has no name and counts the rows: it is left out as an index"
OPEN = "pass `header=True` if it names the columns, `header=False` if it is data"


def table(header: str, *, index: bool | list[str] = False, rows: list[str] = ROWS) -> str:
    """Return a table with a header, and an index of row numbers or of some labels."""
    labels = index if isinstance(index, list) else [str(number) for number in range(len(rows))]
    lines = [f"{label},{row}" for label, row in zip(labels, rows, strict=True)] if index else rows
    return "".join(f"{line}\n" for line in [*([header] if header else []), *lines])


def read_as(header: str, otherwise: str = "") -> str:
    """Return the note on a header that was found."""
    return f"the first row, {header}, is read as a header{otherwise}"


def found_notes(path: str, found: Any) -> list[str]:
    """Return the notes on a table, without its path."""
    return [note.removeprefix(f"{path}: ") for note in found.notes]


COUNTED = read_as("0,1,2", "; `header=False` reads it as data")
READ = {
    "to_csv(index=False)": (table("0,1,2"), [COUNTED]),
    "to_csv()": (table(",0,1,2", index=True), [read_as(",0,1,2"), INDEX]),
    "columns=abc": (table(",a,b,c", index=True), [INDEX]),
    "columns=abc, index=False": (table("a,b,c"), []),
    "header=False, index=False": (table(""), []),
    "quoting=1": (
        '"","0","1","2"\n' + "".join(f'"{k}","{ROWS[k]}"\n' for k in range(3)).replace(",", '","')
        .replace('""', '"'),
        [read_as(",0,1,2"), INDEX],
    ),
    "sep=tab": (table(",0,1,2", index=True).replace(",", "\t"), [read_as(",0,1,2"), INDEX]),
    "sep=;": (table(",0,1,2", index=True).replace(",", ";"), [read_as(",0,1,2"), INDEX]),
    "read_csv and to_csv": (
        table(",Unnamed: 0,0,1,2", index=True, rows=table("", index=True).splitlines()),
        [read_as(",Unnamed: 0,0,1,2"), INDEX],
    ),
    "of labels that are floats": (
        table(",0.0,1.0,2.0", index=True), [read_as(",0.0,1.0,2.0"), INDEX],
    ),
    "of integers, columns=abc": ("a,b,c\n0,1,2\n3,4,5\n", []),
}  # fmt: skip


@pytest.mark.parametrize("written", READ)
def test_tables_of_pandas_are_read_without_header_and_index(tmp_path: Path, written: str) -> None:
    content, expected = READ[written]
    path = text(tmp_path / "x.csv", content)
    found = opened(path, dtype=np.dtype("f8"))
    values = np.arange(6).reshape(2, 3) if "integers" in written else VALUES
    assert np.array_equal(whole(found)[:, 0], values)
    assert found_notes(path, found) == expected


def test_one_column(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", ",0\n0,0.5\n1,0.25\n")
    found = opened(path, 1)
    assert whole(found)[:, 0].tolist() == [[0.5], [0.25]]
    assert found_notes(path, found) == [read_as(",0"), INDEX]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("0,1,2\n3,4,5\n6,7,8\n", "0,1,2"),  # numpy.arange, or integers under a header
        ("0,1,2\n0.5,1,0.25\n", "0,1,2"),
        ("0,1,2\n", "0,1,2"),
        ("0\n0.5\n0.25\n", "0"),
        ("0\n1\n0\n", "0"),
        ("0\n", "0"),
        ("5,7,9\n0.5,0.25,1.5\n1.0,2.0,3.0\n", "5,7,9"),  # selected columns
        ("2015,2016,2017\n0.5,0.25,1.5\n", "2015,2016,2017"),
        ("7\n0.5\n", "7"),
        (",5,7\n0,0.5,0.25\n", ",5,7"),
        ("0.0,1.0,2.0\n0.5,0.25,1.5\n", "0.0,1.0,2.0"),  # labels that are floats
        ("0.0,1.0,2.0\n3.0,4.0,5.0\n", "0.0,1.0,2.0"),
        ("2015.0,2016.0,2017.0\n0.5,0.25,1.5\n", "2015.0,2016.0,2017.0"),
        ("NA,0,1\n0.5,0.25,1.5\n", "NA,0,1"),
        ("t,5,7\n0,0.5,0.25\n", "t,5,7"),
        ("NA,0.5,0.25\n1,2,3\n", "NA,0.5,0.25"),
        ("NA,NA\n0.5,0.25\n", "NA,NA"),
        ("null\n0.5\n", "null"),
        ("a,9,10\n0.5,1,2\n", "a,9,10"),
        (",".join(map(str, range(20))) + "\n", "0,1,2,3,4,5,6,7,8,9,10,11,12,1…"),
    ],
)
def test_a_first_row_that_may_be_a_header_or_data_is_refused(
    tmp_path: Path, content: str, shown: str
) -> None:
    path = text(tmp_path / "x.csv", content)
    refused(path, f"{path}: its first row, {shown}, may be a header or data; {OPEN}", None)
    rows = content.count("\n")
    if rows > 1:
        assert opened(path, None, header=True).steps == rows - 1
    if shown[0].isdigit():
        assert opened(path, None, header=False).steps == rows


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("1,2,3\n4,5,6\n", [[1, 2, 3], [4, 5, 6]]),
        ("0,0,0\n0.5,0.25,1.5\n", [[0, 0, 0], [0.5, 0.25, 1.5]]),
        ("0.5,1.5,2.5\n0.25,1,4\n", [[0.5, 1.5, 2.5], [0.25, 1, 4]]),
        ("0.00,1.00,2.00\n0.50,0.25,1.50\n", [[0, 1, 2], [0.5, 0.25, 1.5]]),
        ("1.0,2.0,3.0\n4.0,1.0,0.5\n", [[1, 2, 3], [4, 1, 0.5]]),
        ("0.0,1.0\n1.0,0.0\n", [[0, 1], [1, 0]]),
        ("0.0\n0.5\n", [[0], [0.5]]),
        ("5,7,9\n0.5,0.25,1\n", [[5, 7, 9], [0.5, 0.25, 1]]),
        ("00,01,02\n0.5,0.25,3\n", [[0, 1, 2], [0.5, 0.25, 3]]),
        ("1,0,2\n0.5,0.25,3\n", [[1, 0, 2], [0.5, 0.25, 3]]),
    ],
)
def test_a_first_row_that_is_data(
    tmp_path: Path, content: str, expected: list[list[float]]
) -> None:
    found = opened(text(tmp_path / "x.csv", content), len(expected[0]))
    assert whole(found)[:, 0].tolist() == expected
    assert found.notes == ()


def test_two_counting_floats_are_data_with_a_note(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", "0.0,1.0\n0.1,0.9\n")
    found = opened(path, 2)
    assert found.steps == 2
    assert found_notes(path, found) == [f"the first row, 0.0,1.0, is read as data; {OPEN}"]


def test_an_unnamed_column_that_counts_no_rows_is_refused(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", table(",a,b,c", index=["5", "6", "7"]))
    words = "its first column has no name, and may be an index or data; pick columns: "
    refused(path, f"{words}FILE:a,b,… without it, FILE:,a,b,… with it")
    assert np.array_equal(whole(opened(f"{path}:a,b,c"))[:, 0], VALUES.astype("f4"))
    assert whole(opened(f"{path}:,a", 2))[:, 0].tolist() == [[5, 0.5], [6, 3], [7, 0.25]]
    path = text(tmp_path / "y.csv", table(",a,b,c", index=["2020-01-01", "2020-01-02", "x"]))
    refused(
        path, "row 1 (line 2 of the file) holds '2020-01-01', which is not a number, in column 1;"
    )
    assert np.array_equal(whole(opened(f"{path}:a,b,c"))[:, 0], VALUES.astype("f4"))


COUNTS = "its first column counts the rows, and may be an index or data; pick columns: "


@pytest.mark.parametrize(
    "index",
    [["0", "1", "2"], ["1", "2", "3"], ["0.0", "1.0", "2.0"], ["1700", "1701", "1702"]],
    ids=lambda index: index[0],
)
def test_a_first_column_without_a_name_that_counts_is_refused(
    tmp_path: Path, index: list[str]
) -> None:
    path = text(tmp_path / "x.csv", table("", index=index))
    advice = f"{COUNTS}FILE:1,2,… without it, FILE:0,1,2,… with it"
    refused(path, f"{path}: {advice}", None)
    refused(text(tmp_path / "y.csv", table("0,1,2,3", index=index)), advice, header=True)
    assert np.array_equal(whole(opened(f"{path}:1,2,3"))[:, 0], VALUES.astype("f4"))
    assert whole(opened(f"{path}:0,1", 2))[:, 0, 0].tolist() == [float(k) for k in index]


def test_an_index_of_two_rows_is_refused(tmp_path: Path) -> None:
    refused(text(tmp_path / "x.csv", "0,0.5,0.25\n1,1.5,-0.5\n"), COUNTS)


@pytest.mark.parametrize(
    "content",
    [
        "3,4,5\n4,5,6\n5,6,7\n",  # windows of a line
        "0,0.5,1\n1,0.25,0\n",
        "0,0.5,0.25\n1,0.25,0\n1,0.25,0\n",
        "1,0.5,0.25\n0,0.25,0.5\n",
        "0,0.5,0.25\n",
        "0.5,7,8\n1.25,0,0\n2.5,0,1\n",
    ],
)
def test_a_first_column_that_is_data(tmp_path: Path, content: str) -> None:
    found = opened(text(tmp_path / "x.csv", content))
    assert (found.width, found.notes) == (3, ())


def test_a_column_that_counts_and_has_a_name_is_read_with_a_note(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", table("index,a,b,c", index=True))
    found = opened(path, 4)
    assert found_notes(path, found) == [
        "the first column, index, counts the rows: it is read as data; FILE:a,b,… leaves it out"
    ]
    assert opened(f"{path}:a,b,c").notes == ()


def test_an_index_with_a_name_is_a_column(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", table("t,0,1,2", index=["5", "6"], rows=ROWS[:2]))
    refused(path, "its last axis has too many columns: 4, and not 3; pick columns by their names, "
            "FILE:a,b: t, 0, 1, 2")  # fmt: skip
    found = opened(f"{path}:0,1,2")
    assert np.array_equal(whole(found)[:, 0], VALUES[:2].astype("f4"))
    assert found_notes(path, found)[0].endswith(read_as("t,0,1,2"))


def test_columns_of_a_table_without_a_header_are_chosen_by_number(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", table(""))
    assert np.array_equal(whole(opened(f"{path}:2,0", 2))[:, 0], VALUES[:, [2, 0]].astype("f4"))


def test_lengths_that_begin_with_zero(tmp_path: Path) -> None:
    from lstmstate.operations.sequences import open_lengths

    x = str(saved(tmp_path / "x.npy", numbers(3, 5, 2)))
    for content in ("0\n5\n3\n", "n\n0\n5\n3\n"):
        path = text(tmp_path / "n.csv", content)
        assert open_lengths(path, x, 3, 5).tolist() == [0, 5, 3]
    with pytest.raises(lstmstate.LstmstateError, match="give one length for each sequence"):
        open_lengths(text(tmp_path / "n.csv", "0\n0\n5\n3\n"), x, 3, 5)


# ---- in the commands


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A checkpoint of a cell with an input of 3 and 2 units."""
    return checkpoint(tmp_path / "model.ckpt", lstm_cell(units=2))


@pytest.fixture
def runs(shell: Shell, tmp_path: Path, model: str) -> Callable[..., Array]:
    """Run the cell over a table with some flags; return its outputs."""

    def outputs(content: str, *flags: str) -> Array:
        path, target = text(tmp_path / "in.csv", content), tmp_path / "out.npy"
        shell("run", model, path, *flags, "-o", target, "--force", code=0)
        found: Array = np.load(target)
        return found

    return outputs


def test_run_does_not_read_a_header_as_a_step(
    shell: Shell, tmp_path: Path, model: str, runs: Callable[..., Array]
) -> None:
    expected = runs(table("a,b,c"))
    assert expected.shape == (3, 2)
    for content in (table("0,1,2"), table(",0,1,2", index=True)):
        assert np.array_equal(runs(content), expected)
    done = shell("run", model, text(tmp_path / "x.csv", table(",0,1,2", index=True)))
    assert f"{tmp_path / 'x.csv'}: {INDEX}" in notes(done)


@pytest.mark.parametrize("command", ["run", "verify"])
def test_flags_decide_whether_the_first_row_is_a_header(
    shell: Shell, tmp_path: Path, model: str, command: str, runs: Callable[..., Array]
) -> None:
    content = "0,1,2\n3,4,5\n6,7,8\n"
    path = text(tmp_path / "x.csv", content)
    done = shell(command, model, path, code=3)
    assert (
        error(done)
        == f"{path}: its first row, 0,1,2, may be a header or data; pass --header if it names the "
        "columns, --no-header if it is data"
    )
    assert np.array_equal(runs(content, "--header"), runs("a,b,c\n3,4,5\n6,7,8\n"))
    assert np.array_equal(runs(content, "--no-header"), runs("a,b,c\n0,1,2\n3,4,5\n6,7,8\n"))
    assert runs(content, "--no-header").shape == (3, 2)


STATE = np.array([[0.5, -0.25, 0.125, 0.75], [1.5, 2.5, -0.5, 0.25]])
STATE_ROWS = ["0.5,-0.25,0.125,0.75", "1.5,2.5,-0.5,0.25"]


@pytest.mark.parametrize(
    ("header", "index"), [("0,1,2,3", False), (",0,1,2,3", True), (",w,x,y,z", True)]
)
def test_a_state_in_a_table_of_pandas(
    shell: Shell, tmp_path: Path, header: str, index: bool
) -> None:
    path = text(tmp_path / "x.csv", table(header, index=index, rows=STATE_ROWS))
    target = tmp_path / "y.npy"
    done = shell("convert", path, "--to-flat", "-o", target, code=0)
    assert np.load(target).tolist() == STATE.tolist()
    assert (INDEX in notes(done)) is index
    assert any(re.match("the first row, .* is read as a header", n) for n in notes(done)) is (
        "0" in header
    )
    with pytest.warns(UserWarning):
        state = lstmstate.load_state(path)
    assert isinstance(state, lstmstate.LSTMState)
    assert state.flat().tolist() == STATE.tolist()


def test_c_and_m_next_to_an_index(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", table(",c.0,c.1,m.0,m.1", index=True, rows=STATE_ROWS))
    with pytest.warns(UserWarning, match="left out as an index"):
        state = lstmstate.load_state(path)
    assert isinstance(state, lstmstate.LSTMState)
    assert (state.c.tolist(), state.m.tolist()) == (STATE[:, :2].tolist(), STATE[:, 2:].tolist())


@pytest.mark.parametrize("header", ["", "w,x,y,z"])
def test_columns_of_a_state_are_chosen(shell: Shell, tmp_path: Path, header: str) -> None:
    path = text(
        tmp_path / "x.csv", table(header and f",{header}", index=["5", "6"], rows=STATE_ROWS)
    )
    columns = header or "1,2,3,4"
    target = tmp_path / "y.npy"
    assert shell("convert", f"{path}:{columns}", "--to-flat", "-o", target).code == 0
    assert np.load(target).tolist() == STATE.tolist()
    done = shell("convert", f"{path}:v", "--to-flat", "-o", tmp_path / "z.npy", code=3)
    assert "v: there is no such column; there are: " in error(done) or "no names" in error(done)


def test_an_index_is_not_part_of_a_state(shell: Shell, tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", table("", index=True, rows=STATE_ROWS))
    assert COUNTS in error(shell("convert", path, "--to-flat", "-o", tmp_path / "y.npy", code=3))


def test_every_command_that_reads_a_state_has_the_flags(shell: Shell, tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", "0,1,2,3\n4,5,6,7\n")
    half = text(tmp_path / "c.csv", "0,1\n2,3\n")
    ckpt = checkpoint(tmp_path / "model.ckpt", lstm_cell(units=2))
    x = saved(tmp_path / "x.npy", numbers(2, 4, 3))
    rows = {"--header": 1, "--no-header": 2}
    for name, arguments in {
        "inspect": [path],
        "convert": [path, "--to-flat", "-o", tmp_path / "flat.npy"],
        "split": [path, "-o", tmp_path / "c.npy", tmp_path / "m.npy"],
        "concat": [half, half, "-o", tmp_path / "flat.npy"],
        "diff": [path, path],
        "check": [path, "--units", "2"],
        "run": [ckpt, x, "--state", path, "-o", tmp_path / "y.npz"],
    }.items():
        done = shell(name, "-q", *arguments, code=3)
        assert done.err.count("may be a header or data; pass --header") == 1
        for flag in rows if name != "run" else ["--no-header"]:
            force = [] if name in ("inspect", "diff", "check") else ["--force"]
            shell(name, "-q", *arguments, flag, *force, code=0)
            if name in ("convert", "concat"):
                assert len(np.load(tmp_path / "flat.npy")) == rows[flag]
    with pytest.raises(lstmstate.LstmstateError, match="may be a header or data"):
        lstmstate.load_state(path)
    for header, count in ((True, 1), (False, 2)):
        with pytest.warns(UserWarning, match="cut in half"):
            assert lstmstate.load_state(path, header=header).batch_shape == (count,)


def test_files_written_by_convert_need_no_flag(shell: Shell, tmp_path: Path) -> None:
    target = tmp_path / "state.csv"
    assert shell("convert", "-q", SUNSPOTS, "--to-tuple", "-o", target).code == 0
    assert not any("header" in note for note in notes(shell("diff", SUNSPOTS, target, code=0)))
