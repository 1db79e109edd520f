"""Common first mistakes of users, and the one-line error for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import SAMPLES, Shell, archive, error, numbers, saved

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
        f"{{}}/x.json: expected sequences, got a JSON text; {TAKES}, in an .npy, .npz, .h5 or .csv",
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
        "an HDF5 file cannot be written to stdout; pass a file: -o FILE",
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
    done = shell(*words)
    assert (done.code, error(done)) == (code, expected)
