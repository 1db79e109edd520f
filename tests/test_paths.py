"""Paths with the same meaning in every command: a file, an array in it, a checkpoint, stdin."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import (
    SUNSPOTS,
    Array,
    Shell,
    archive,
    checkpoint,
    error,
    lstm_cell,
    numbers,
    piped,
    saved,
)

CELL = "rnn/lstm_cell"


@pytest.fixture
def flat() -> Array:
    """A flat state of a cell of 4 units."""
    return numbers(2, 8, seed=5)


@pytest.fixture
def model(tmp_path: Path, flat: Array) -> str:
    """A cell of 4 units, two saved states, and a variable that is not its state."""
    states = {"train/state": flat, "valid/state": numbers(2, 8, seed=6)}
    others = {"dense/kernel": numbers(3, 5)}
    return checkpoint(tmp_path / "model.ckpt", lstm_cell(CELL) | states | others)


def widths(document: Any) -> list[tuple[int, int]]:
    """Return the widths of c and m that inspect prints for the cells of a state."""
    return [(cell["c"], cell["m"]) for cell in document["state"]["cells"]]


@pytest.mark.parametrize("kind", ["npy", "npz", "npz:state", "ckpt:train/state", "own.ckpt"])
def test_inspect_and_check_accept_the_same_paths(
    shell: Shell, tmp_path: Path, model: str, flat: Array, kind: str
) -> None:
    npz = archive(tmp_path / "a.npz", state=flat)
    own = tmp_path / "own.ckpt"
    shell(
        "convert", saved(tmp_path / "b.npy", flat), "--to-tuple", "--units", "4", "-o", own, code=0
    )
    path = {
        "npy": str(saved(tmp_path / "a.npy", flat)),
        "npz": str(npz),
        "npz:state": f"{npz}:state",
        "ckpt:train/state": f"{model}:train/state",
        "own.ckpt": str(own),
    }[kind]
    assert shell("check", path, "--units", "4", "--cells", "1", "--finite").code == 0
    assert shell("diff", path, tmp_path / "b.npy", "--units", "4").code == 0
    found = shell.json("inspect", path)
    assert found["kind"] == "state"
    assert widths(found) == [(4, 4)]
    (cell,) = found["state"]["cells"]
    assert cell["range"]["c"]["low"] == pytest.approx(float(flat[:, :4].min()))
    assert "[2, 4]" in shell("inspect", path).out


def test_inspect_names_the_cell_of_a_state_in_a_checkpoint(shell: Shell, model: str) -> None:
    found = shell.json("inspect", f"{model}:train/state")
    assert (found["format"], found["path"]) == ("v2", f"{model}:train/state")
    assert found["state"]["told_by"] == "checkpoint"
    assert [cell["name"] for cell in found["state"]["cells"]] == [CELL]
    assert [array["name"] for array in found["arrays"]] == ["train/state"]
    assert "(from the cells of its checkpoint)" in shell("inspect", f"{model}:train/state").out


def test_inspect_of_another_variable_shows_its_shape(shell: Shell, model: str) -> None:
    found = shell.json("inspect", f"{model}:dense/kernel")
    assert found["state"] is None
    assert "it is 5 wide, and c 4 + m 4 are 8" in found["problem"]
    assert [array["shape"] for array in found["arrays"]] == [[3, 5]]


@pytest.mark.parametrize("command", [["inspect"], ["check", "--finite"], ["convert", "--to-flat"]])
def test_a_missing_variable_is_refused_by_every_command(
    shell: Shell, model: str, command: list[str]
) -> None:
    done = shell(*command, f"{model}:nope", "-q", code=3)
    assert (
        error(done) == f"{model}: nope: there is no such variable; `lstmstate inspect` lists them"
    )


def test_inspect_of_a_checkpoint_lists_cells_and_states(shell: Shell, model: str) -> None:
    found = shell.json("inspect", model)
    assert (found["kind"], [cell["name"] for cell in found["cells"]]) == ("checkpoint", [CELL])
    assert [state["variable"] for state in found["states"]] == ["train/state", "valid/state"]


@pytest.mark.parametrize("by", ["pipe", "file"])
def test_inspect_reads_stdin(tmp_path: Path, flat: Array, by: str) -> None:
    source = archive(tmp_path / "a.npz", c=flat[:, :4], m=flat[:, 4:])
    stdin = source if by == "file" else source.read_bytes()
    done = piped("inspect", "-", "--json", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    assert (found["path"], found["format"], found["kind"]) == ("-", "npz", "state")
    assert widths(found) == [(4, 4)]
    assert np.isclose(found["state"]["cells"][0]["range"]["m"]["high"], flat[:, 4:].max())


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("run {ckpt} {x} -o {out} --state", 3),
        ("run {ckpt} {x} --zero-state --state", 2),
        ("run {ckpt} {x} --state-out", 3),
        ("run {ckpt} {x} -o", 3),
        ("run {ckpt} {x} {x} -o", 2),
        ("run {ckpt} {x} -o {out} --lengths", 3),
        ("convert {flat} --to-tuple -o", 3),
        ("convert {flat} --to-tuple -o {out} --checkpoint", 3),
        ("concat {flat} {flat} -o", 3),
        ("verify {ckpt} --against graph --lengths", 2),
        ("diff {flat} {flat} --checkpoint", 3),
    ],
)
def test_an_empty_path_is_not_one_that_was_left_out(
    shell: Shell, tmp_path: Path, line: str, code: int
) -> None:
    x, flat = (
        saved(tmp_path / name, numbers(4, 8)[:, :n]) for name, n in (("x.npy", 1), ("f.npy", 8))
    )
    places = {"ckpt": SUNSPOTS, "x": x, "flat": flat, "out": tmp_path / "out.npz"}
    assert shell(*line.format(**places).split(), "", code=code).out == ""
    assert sorted(os.listdir(tmp_path)) == ["f.npy", "x.npy"]
