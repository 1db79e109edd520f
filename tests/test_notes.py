"""Notes on how a checkpoint was read: each printed once by every command that opens one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from commands import Shell, checkpoint, lstm_cell, notes, numbers, saved

import lstmstate

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
