"""Names of c, m and whole states, read in the same way from npz, HDF5 and checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import Array, Shell, checkpoint, error, lstm_cell, numbers

from lstmstate import LSTMState, StackState, load_state, open_checkpoint
from lstmstate.cells.state_names import parse, role_of

# The names of c and of m in files of users; other programs write h, hidden and cell.
PAIRS = [
    ("c", "m"),
    ("c", "h"),
    ("cell", "hidden"),
    ("c_state", "m_state"),
    ("c_state", "h_state"),
    ("cell_state", "hidden_state"),
    ("C_State", "H_State"),
    ("last_c", "last_h"),
    ("saved_c", "saved_h"),
    ("init_c", "init_h"),
    ("prev_c", "prev_m"),
    ("lstm_c_state", "lstm_h_state"),
    ("state_c", "state_h"),
    ("states_c", "states_h"),
    ("final_state_c", "final_state_h"),
    ("last_cell", "last_hidden"),
    ("c0", "h0"),
    ("c_0", "h_0"),
    ("state_0_c", "state_0_m"),
    ("c_state_1", "h_state_1"),
    ("rnn/c", "rnn/h"),
    ("rnn/lstm_cell/c", "rnn/lstm_cell/m"),
    ("C", "H"),
    ("c1", "h1"),
    ("c_0", "m_0"),
]
WHOLE = [
    *("state", "states", "flat", "flat_state", "saved_state", "initial_state", "last_states"),
    *("lstm_state", "rnn_state", "zero_state", "carry", "state_0", "initial_state_0"),
]
NOTHING = [
    *("weights_hidden", "kernel_c", "bias_h", "cell_bias", "hidden_layer", "hidden_weights"),
    *("lstm_cell", "rnn_cell", "basic_lstm_cell_1", "statement", "c2h", "outputs", "kernel"),
    *("lstm_1_c_2", "c" * 70, "chn", "global_step"),
]


@pytest.mark.parametrize(("c", "m"), PAIRS)
def test_names_of_c_and_m_share_a_base_name(c: str, m: str) -> None:
    first, second = parse(c), parse(m)
    assert first is not None
    assert second is not None
    assert (first.role, second.role) == ("c", "m")
    assert first._replace(role="m") == second
    assert first.is_plain


def test_the_roles_of_other_names() -> None:
    assert {name: role_of(name) for name in WHOLE if role_of(name) is None} == {}
    assert {found[1] for name in WHOLE if (found := role_of(name))} == {"state"}
    assert [role_of(name) for name in ("h_n", "hn", "c_n", "last_c_n")] == [
        *(("", "h_n"), ("", "h_n"), ("", "c_n"), ("", "c_n"))
    ]
    assert {name: role_of(name) for name in NOTHING if role_of(name)} == {}
    assert [role_of(name) for name in ("h1", "lstm_2_c", "a/state_0_m")] == [
        *(("1", "m"), ("2", "c"), ("a/0", "m"))
    ]


def stored(folder: Path, kind: str, arrays: dict[str, Array]) -> str:
    """Write arrays into a file of a kind; return its path."""
    path = folder / f"state.{kind}"
    if kind == "npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    elif kind == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    else:
        model = lstm_cell("net/lstm_cell", units=4) if kind == "model.ckpt" else {}
        return checkpoint(path, model | arrays)
    return str(path)


KINDS = ["npz", "h5", "ckpt", "model.ckpt"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("c_name", "m_name"), PAIRS)
def test_c_and_m_of_any_such_names_are_read_from_any_file(
    tmp_path: Path, kind: str, c_name: str, m_name: str
) -> None:
    """In any order, and of any widths that its cells have."""
    c, m = numbers(2, 4, seed=1), numbers(2, 4 if kind == "model.ckpt" else 3, seed=2)
    for arrays in ({m_name: m, c_name: c}, {c_name: c, m_name: m}):
        state = load_state(stored(tmp_path, kind, arrays))
        assert isinstance(state, LSTMState)
        np.testing.assert_array_equal(state.c, c)
        np.testing.assert_array_equal(state.m, m)


def test_names_of_tensors_are_names_of_halves(tmp_path: Path) -> None:
    c, m = numbers(2, 4, seed=1), numbers(2, 3, seed=2)
    state = load_state(stored(tmp_path, "npz", {"h:0": m, "c:0": c}))
    assert (state.c.tolist(), state.m.tolist()) == (c.tolist(), m.tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WHOLE)
def test_a_flat_state_of_any_such_name_is_read_from_any_file(
    tmp_path: Path, kind: str, name: str
) -> None:
    flat = numbers(2, 8, seed=3)
    path = stored(tmp_path, kind, {name: flat, "steps": np.zeros((), "f4")})
    state = load_state(path, cells=None if kind == "model.ckpt" else [(4, 4)])
    np.testing.assert_array_equal(state.flat(), flat)


@pytest.mark.parametrize("kind", ["npz", "h5", "ckpt"])
def test_the_arrays_of_pytorch_are_read_from_any_file(tmp_path: Path, kind: str) -> None:
    h_n, c_n = numbers(3, 2, 4, seed=1), numbers(3, 2, 4, seed=2)
    state = load_state(stored(tmp_path, kind, {"h_n": h_n, "c_n": c_n}))
    assert isinstance(state, StackState)
    np.testing.assert_array_equal([cell.m for cell in state.cells], h_n)
    np.testing.assert_array_equal([cell.c for cell in state.cells], c_n)


def test_pytorch_arrays_next_to_their_cell_are_a_saved_state(tmp_path: Path) -> None:
    h_n, c_n = numbers(1, 2, 4, seed=1), numbers(1, 2, 4, seed=2)
    path = stored(tmp_path, "model.ckpt", {"h_n": h_n, "c_n": c_n})
    found = {
        state.variable: (state.layout, state.cell)
        for state in open_checkpoint(path).states.values()
    }
    assert found == {"h_n": ("h_n", "net/lstm_cell"), "c_n": ("c_n", "net/lstm_cell")}
    state = load_state(path)
    np.testing.assert_array_equal(state.flat(), np.concatenate([c_n, h_n], axis=-1)[0])


@pytest.mark.parametrize("kind", ["npz", "h5", "ckpt"])
def test_weights_are_not_a_state_in_any_file(tmp_path: Path, shell: Shell, kind: str) -> None:
    arrays = {"kernel_c": numbers(2, 4), "kernel_h": numbers(2, 4), "lstm_cell": numbers(2, 4)}
    done = shell(
        "convert", stored(tmp_path, kind, arrays), "--to-flat", "-o", tmp_path / "x.npy", code=3
    )
    assert error(done)


def test_two_states_of_one_file_are_not_a_stack(tmp_path: Path, shell: Shell) -> None:
    arrays = {"initial_state": numbers(2, 2, 4), "final_state": numbers(2, 2, 4, seed=1)}
    path = stored(tmp_path, "npz", arrays)
    done = shell("convert", path, "--to-flat", "-o", tmp_path / "x.npy", code=3)
    assert "both 'initial_state' and 'final_state' are names of its state" in error(done)
