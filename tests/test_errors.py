"""Errors: the first of several, bugs of the program, and notes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import SAMPLES, Shell, archive, checkpoint, error, lstm_cell, notes, numbers, saved

import lstmstate
from lstmstate.errors import CorruptError, is_fault
from lstmstate.files.reader import ByteSource
from lstmstate.operations.load import open_path
from lstmstate.state.formats.number_table import TextTable

PEEPHOLE = SAMPLES / "peephole_flat"
TAKES = "rnn/lstm_cell takes [batch, time, 3]"

# arguments, exit code, the error: {} is the folder, which is the current one
ERRORS = {
    "a name that is nearly right": (
        "verify {}/modl",
        3,
        "{}/modl: there is no checkpoint or file of this name; did you mean {}/model?",
    ),
    "a name that is like no other": (
        "inspect {}/zzz",
        3,
        "{}/zzz: there is no checkpoint or file of this name; check the path",
    ),
    "a folder that is nearly right": (
        "inspect {}/modl/a.ckpt",
        3,
        "{}/modl: there is no such folder; did you mean {}/model?",
    ),
    "a folder without a checkpoint": (
        "run {}/model {}/x.npy",
        3,
        "{}/model: there is no checkpoint in this folder; pass the folder with "
        "PREFIX.index and PREFIX.data-…, or with a frozen graph",
    ),
    "an input that is not there": (
        "run CKPT {}/xx.npy",
        3,
        "{}/xx.npy: there is no such file; did you mean {}/x.npy?",
    ),
    "a state that is not there": (
        "run CKPT {}/x.npy --state {}/stat.npz",
        3,
        "{}/stat.npz: there is no checkpoint or file of this name; did you mean {}/state.npz?",
    ),
    "a variable that is nearly right": (
        "run CKPT {}/x.npy --state CKPT:saved_stat",
        3,
        "CKPT/model.ckpt: saved_stat: there is no such variable; did you mean saved_state?",
    ),
    "a variable that is like no other": (
        "run CKPT {}/x.npy --state CKPT:zzz",
        3,
        "CKPT/model.ckpt: zzz: there is no such variable; `lstmstate inspect` lists them",
    ),
    "an input of too few columns": (
        "run CKPT {}/narrow.npy",
        3,
        f"{{}}/narrow.npy: its shape is [4, 5, 2], and {TAKES}; its last axis has too few "
        "columns: 2, and not 3; give those that the cell was trained on",
    ),
    "a table of too many columns": (
        "run CKPT {}/wide.csv",
        3,
        f"{{}}/wide.csv: its shape is [4, 5], and {TAKES}; its last axis has too many "
        "columns: 5, and not 3; pick columns by their numbers, FILE:0,2",
    ),
    "a JSON for an input": (
        "run CKPT {}/x.json",
        3,
        f"{{}}/x.json: expected sequences, got a JSON text; {TAKES}, in .npy, .npz, .h5, "
        ".safetensors, .pt or .csv",
    ),
    "a text": (
        "inspect {}/x.txt",
        3,
        "{}/x.txt: expected a state or a TensorFlow checkpoint, got a text file; pass a TensorFlow "
        "checkpoint, or a state in .npy, .npz or .h5",
    ),
    "an empty file": (
        "inspect {}/empty",
        3,
        "{}/empty: expected a state or a TensorFlow checkpoint, got an empty file; copy it again "
        "from where it came from",
    ),
    "a state of other widths": (
        "run CKPT {}/x.npy --state {}/flat.npy",
        3,
        "{}/flat.npy: it is 12 wide, and c 8 + m 5 are 13 (by CKPT/model.ckpt); pass a state of "
        "these widths, or the widths of this one",
    ),
    "lengths as a number": (
        "run CKPT {}/x.npy --lengths 5",
        3,
        "5: there is no such file of lengths, and no such array next to the input; give a file of "
        "one whole number for each sequence",
    ),
    "an output in a folder that is not there": (
        "run CKPT {}/x.npy -o {}/gone/y.npz",
        3,
        "{}/gone/y.npz: it cannot be written (No such file or directory); make its folder first, "
        "{}/gone",
    ),
    "an output that is a folder": (
        "convert {}/flat.npy --to-tuple --format npz -o {}/model",
        3,
        "{}/model: this is a folder: no output can be written there; pass the path of a file",
    ),
    "an output that is not a stream": (
        "convert {}/flat.npy --to-tuple --format h5 -o -",
        3,
        "an HDF5 file cannot be written to stdout; pass the path of a file",
    ),
    "two arrays into an npy": (
        "convert {}/flat.npy --to-tuple -o {}/y.npy",
        3,
        "{}/y.npy: an .npy file holds one array, and these are 2; write an .npz or .h5",
    ),
    "two files of convert": (
        "convert {}/flat.npy --to-tuple -o c.npy m.npy",
        2,
        "-o is for one source; pass --out-dir for several, and use split for the files C and M; "
        "see lstmstate convert --help",
    ),
    "no output of split": (
        "split {}/flat.npy",
        2,
        "Missing option '-o' / '--output': pass -o C M; see lstmstate split --help",
    ),
    "one output of split": (
        "split {}/flat.npy -o c.npy",
        2,
        "Option '-o' requires 2 arguments: pass -o C M; see lstmstate split --help",
    ),
    "two outputs for two cells": (
        "split SUNSPOTS -o {}/c.npy {}/m.npy",
        3,
        "SUNSPOTS/model.ckpt-360: the state has 2 cells and there are 2 files; pass two files for "
        "each cell: -o C M",
    ),
    "no output of concat": (
        "concat {}/flat.npy {}/flat.npy",
        2,
        "Missing option '-o' / '--output': pass -o FLAT; see lstmstate concat --help",
    ),
    "one half": (
        "concat {}/flat.npy -o {}/y.npy",
        2,
        "expected pairs of files, C M, got 1 file; see lstmstate concat --help",
    ),
    "a flag without its value": (
        "check CKPT --units",
        2,
        "Option '--units' requires an argument: pass --units N; see lstmstate check --help",
    ),
    "no command": (
        "inspct CKPT",
        2,
        "no command 'inspct'; did you mean inspect?",
    ),
    "an array of a file of one": (
        "inspect {}/flat.npy:x",
        3,
        "{}/flat.npy: x: its one array has no name; pass the file alone",
    ),
    "an array that many others are not": (
        "inspect {}/many.npz:x",
        3,
        "{}/many.npz: x: there is no such array; there are: y0, y1, y2, y3, y4, y5 and 2 more",
    ),
    "a stack of a single cell": (
        "run CKPT {}/x.npy --stack x",
        3,
        "CKPT/model.ckpt: x: there is no such stack of LSTM cells; leave --stack out: it has none",
    ),
    "an index that is cut short": (
        "inspect {}/cut.index",
        3,
        "{}/cut.index: it does not end as a checkpoint does: not one, or cut short; copy it again "
        "from where it came from",
    ),
    "a folder for an input": (
        "run CKPT {}/model",
        3,
        "{}/model: this is a folder; pass the path of a file",
    ),
    "no input": ("run CKPT", 2, "Missing argument 'INPUT...'; see lstmstate run --help"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files for the mistakes."""
    (tmp_path / "model").mkdir()
    saved(tmp_path / "x.npy", numbers(4, 5, 3))
    saved(tmp_path / "narrow.npy", numbers(4, 5, 2))
    saved(tmp_path / "flat.npy", numbers(4, 12))
    archive(tmp_path / "state.npz", c=numbers(4, 8), m=numbers(4, 5))
    archive(tmp_path / "many.npz", **{f"y{k}": numbers(2, 2) for k in range(8)})
    np.savetxt(tmp_path / "wide.csv", numbers(4, 5), delimiter=",")
    (tmp_path / "x.json").write_text('{"x": 1}')
    (tmp_path / "x.txt").write_text("words\n")
    (tmp_path / "empty").touch()
    index = (PEEPHOLE / "model.ckpt.index").read_bytes()
    (tmp_path / "cut.index").write_bytes(index[:-9])
    return tmp_path


@pytest.mark.parametrize("mistake", ERRORS)
def test_first_errors_name_the_remedy(shell: Shell, folder: Path, mistake: str) -> None:
    places = {"{}": str(folder), "CKPT": str(PEEPHOLE), "SUNSPOTS": str(SAMPLES / "sunspots")}
    arguments, code, expected = ERRORS[mistake]
    words = arguments.split()
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
        expected = expected.replace(name, place)
    assert error(shell(*words, code=code)) == expected


# ---- bugs in the program, reported as such and never as damaged files


def raising(kind: str, module: str = "lstmstate.state.some") -> Callable[..., Any]:
    """Return a function of a module that raises an exception."""
    namespace: dict[str, Any] = {"__name__": module}
    exec(f"def function(*_, **__):\n    raise {kind}('x')", namespace)
    function: Callable[..., Any] = namespace["function"]
    return function


def a_table(path: Path) -> object:
    """Read two columns of a table of numbers."""
    path.write_text("a,b\n1,2\n3,4\n")
    with ByteSource(str(path)) as source:
        return TextTable(source, header=None, most=100).read([0, 1])


def an_hdf5(path: Path) -> object:
    """Open an HDF5 file of one array."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["state"] = numbers(2, 8)
    return open_path(str(path))


# A function that reads a valid file, and one that it calls.
READERS: list[tuple[str, Callable[[Path], object], str]] = [
    (
        "a.npy",
        lambda path: open_path(str(saved(path, numbers(2, 8)))),
        "state.formats.numpy_reader.read_header",
    ),
    (
        "a.npz",
        lambda path: open_path(str(archive(path, state=numbers(2, 8)))),
        "state.formats.numpy_reader._array",
    ),
    ("a.h5", an_hdf5, "state.formats.hdf5_reader._walk"),
    ("a.csv", a_table, "state.formats.number_table.TextTable._whole"),
]


@pytest.mark.parametrize("kind", ["AttributeError", "NameError", "AssertionError", "TypeError"])
@pytest.mark.parametrize(("name", "read", "function"), READERS)
def test_a_bug_in_a_reader_is_not_hidden(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    read: Callable[[Path], object],
    function: str,
    kind: str,
) -> None:
    read(tmp_path / name)
    monkeypatch.setattr(f"lstmstate.{function}", raising(kind))
    with pytest.raises(Exception, match="x") as caught:
        read(tmp_path / name)
    assert type(caught.value).__name__ == kind


@pytest.mark.parametrize(
    ("kind", "module"),
    [("ValueError", "lstmstate.state.formats.numpy_reader"), ("TypeError", "numpy.lib.format")],
)
@pytest.mark.parametrize(("name", "read", "function"), READERS)
def test_errors_that_data_can_cause_are_damage_and_keep_their_cause(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    read: Callable[[Path], object],
    function: str,
    kind: str,
    module: str,
) -> None:
    monkeypatch.setattr(f"lstmstate.{function}", raising(kind, module))
    with pytest.raises(CorruptError) as caught:
        read(tmp_path / name)
    assert type(caught.value.__cause__).__name__ == kind


def test_the_command_line_names_the_bug_and_debug_prints_the_traceback(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "flat.npy", numbers(2, 8))
    monkeypatch.setattr("lstmstate.state.formats.numpy_reader.limits", object())
    assert error(shell("inspect", path, code=3)).startswith("internal error (AttributeError: ")
    assert "MAX_NPY_HEADER_BYTES" in shell("inspect", path, "--debug").err


def test_debug_shows_the_cause_of_damage(shell: Shell, tmp_path: Path) -> None:
    path = saved(tmp_path / "flat.npy", numbers(2, 8))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"'descr': '<f4'", b"'descr': '<z4'"))
    done = shell("inspect", path, "--debug", code=3)
    assert "numpy/lib" in done.err.replace("\\", "/")
    assert "this is not a NumPy array that can be read" in done.err


def test_only_errors_in_this_package_are_its_bugs() -> None:
    def found(function: Callable[..., Any]) -> BaseException:
        with pytest.raises(Exception) as caught:
            function()
        return caught.value

    assert is_fault(found(raising("NameError")))
    assert not is_fault(found(raising("ValueError")))
    assert not is_fault(found(raising("NameError", "h5py.h5d")))
    assert not is_fault(found(lambda: np.dtype([1])))
    assert not is_fault(NameError("never raised"))


# ---- notes on how a checkpoint was read: each printed once by every command that opens one


NOTE = "without the graph"


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A cell of 4 units and its saved state; the graph next to them is damaged."""
    values = lstm_cell() | {"rnn/lstm_cell/state": numbers(1, 8)}
    prefix = checkpoint(tmp_path / "model.ckpt", values)
    (tmp_path / "model.ckpt.meta").write_bytes(b"\xff" * 20)
    return prefix


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A flat state of that cell."""
    return saved(tmp_path / "flat.npy", numbers(1, 8, seed=1))


COMMANDS = [
    "inspect MODEL",
    "inspect MODEL:rnn/lstm_cell/state",
    "run MODEL X --forget-bias 1",
    "run OTHER X --forget-bias 1 --state MODEL",
    "convert MODEL --to-tuple -o OUT.npz",
    "convert STATE --to-tuple --checkpoint MODEL -o OUT.npz",
    "split MODEL -o OUT.npy OUT.m.npy",
    "verify MODEL",
    "check MODEL --finite",
    "check MODEL:rnn/lstm_cell/state --units 4",
    "diff MODEL OTHER",
    "diff OTHER MODEL",
    "diff MODEL STATE",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_the_note_on_a_damaged_graph_once(
    shell: Shell, tmp_path: Path, model: str, state: Path, command: str
) -> None:
    other = checkpoint(tmp_path / "other.ckpt", lstm_cell())
    x = saved(tmp_path / "x.npy", numbers(5, 3))
    places = {"MODEL": model, "OTHER": other, "STATE": state, "X": x, "OUT": tmp_path / "out"}
    arguments = [
        re.sub("^[A-Z]+", lambda word: str(places[word[0]]), argument)
        for argument in command.split()
    ]
    found = [note for note in notes(shell(*arguments)) if NOTE in note]
    assert len(found) == 1
    assert found[0].startswith(f"{model}.meta: ")
    assert [note for note in notes(shell(*arguments, "-q")) if NOTE in note] == []


def test_the_notes_of_an_open_checkpoint_are_complete_at_once(model: str) -> None:
    ckpt = lstmstate.open_checkpoint(model)
    found = ckpt.notes
    assert [NOTE in note for note in found] == [True]
    assert (list(ckpt.cells), ckpt.notes) == (["rnn/lstm_cell"], found)


def test_loading_a_state_from_such_a_checkpoint_warns(model: str) -> None:
    with pytest.warns(UserWarning, match=NOTE):
        state = lstmstate.load_state(model)
    assert state.flat().shape == (1, 8)
    stored = lstmstate.open_checkpoint(model).variables["rnn/lstm_cell/state"].read()
    np.testing.assert_array_equal(state.flat(), stored)
