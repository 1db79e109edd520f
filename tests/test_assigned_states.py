"""States that a graph assigns to variables after its last step and never reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell
from writers import TensorFlow, as_in_1_x, dynamic, inputs, new_session, static, tensorflow

from lstmstate import StackState, load_state, open_checkpoint

BATCH, STEPS, INPUTS = 3, 4, 2
LOOPS = {"dynamic": dynamic, "functional": dynamic, "static": static}

Array = Any
Keep = Callable[[TensorFlow, Any], list[Any]]  # (tf, last state) → the assignments


def to(tf: TensorFlow, name: str, value: Any) -> Any:
    """Make a variable, and the operation that assigns a value to it."""
    shape = value.shape.as_list()
    kept = tf.get_variable(name, shape, initializer=tf.zeros_initializer(), trainable=False)
    return tf.assign(kept, value)


def by_half(tf: TensorFlow, last: Any) -> list[Any]:
    return [to(tf, "one", last.c), to(tf, "two", last.h)]


def kept(join: Callable[[TensorFlow, Any, Any], Any]) -> Keep:
    """Keep c and m joined in one variable."""
    return lambda tf, last: [to(tf, "kept", join(tf, last.c, last.h))]


def saved(
    folder: Path, make: Callable[[TensorFlow], Any], keep: Keep, loop: str
) -> tuple[str, Any]:
    """Run a cell over some data, keep its last state and save; return the state in TensorFlow."""
    tf, prefix = tensorflow(), str(folder / "model.ckpt")
    data = np.random.default_rng(1).uniform(-1, 1, (BATCH, STEPS, INPUTS)).astype("f4")
    with as_in_1_x(tf, loop == "functional"):
        x = inputs(tf, INPUTS, BATCH, STEPS)
        _, last = LOOPS[loop](tf, make(tf), x)
        assigning = keep(tf, last)
        saver = tf.train.Saver(tf.global_variables())
        with new_session(tf) as session:
            session.run(tf.global_variables_initializer())
            found, _ = session.run([last, assigning], {x: data})
            saver.save(session, prefix)
    return prefix, found


def one_cell(tf: TensorFlow) -> Any:
    return tf.nn.rnn_cell.LSTMCell(5, num_proj=4, cell_clip=0.2, proj_clip=0.1)


def square(tf: TensorFlow) -> Any:
    return tf.nn.rnn_cell.LSTMCell(4)


@pytest.mark.covering(1)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("make", "keep", "layouts"),
    [
        (one_cell, by_half, ["c", "m"]),
        (one_cell, kept(lambda tf, c, m: tf.concat([c, m], 1)), ["flat"]),
        (square, kept(lambda tf, c, m: tf.stack([c, m])), ["layered"]),
        (square, kept(lambda tf, c, m: tf.stack([m, c])), ["keras"]),
        (square, kept(lambda tf, c, m: tf.stack([c, m], 1)), ["stacked"]),
    ],
)
def test_c_and_m_of_the_last_state_are_not_swapped(
    tmp_path: Path, loop: str, make: Any, keep: Any, layouts: list[str]
) -> None:
    prefix, last = saved(tmp_path, make, keep, loop)
    ckpt = open_checkpoint(prefix)
    assert [(s.layout, s.source, s.is_start) for s in ckpt.states.values()] == [
        (layout, "graph", False) for layout in layouts
    ]
    c, m = load_state(prefix)
    assert np.array_equal(c, last.c) and np.array_equal(m, last.h)
    assert not np.array_equal(last.c, last.h)


def test_columns_in_an_unknown_order_are_not_flat(tmp_path: Path, shell: Shell) -> None:
    h_first = kept(lambda tf, c, m: tf.concat([m, c], 1))
    prefix, _ = saved(tmp_path, square, h_first, "dynamic")
    (state,) = open_checkpoint(prefix).states.values()
    assert (state.layout, state.cell) == ("unknown", "rnn/lstm_cell")
    assert shell("convert", prefix, "--to-tuple", "-o", tmp_path / "y.npz").code == 3


def two_cells(tf: TensorFlow) -> Any:
    make = tf.nn.rnn_cell
    return make.MultiRNNCell([make.LSTMCell(4), make.LSTMCell(4)])


def numbered(tf: TensorFlow, last: Any) -> list[Any]:
    return [
        to(tf, f"state_{k}_{name}", half)
        for k, state in enumerate(last)
        for name, half in zip("cm", state, strict=True)
    ]


def unnamed(tf: TensorFlow, last: Any) -> list[Any]:
    return [to(tf, f"x{k}", half) for k, half in enumerate(h for s in last for h in s[::-1])]


@pytest.mark.covering(1)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "keep",
    [
        numbered,
        unnamed,
        lambda tf, last: [to(tf, "kept", tf.concat([half for pair in last for half in pair], -1))],
        lambda tf, last: [to(tf, "kept", tf.stack([tf.stack(pair) for pair in last]))],
    ],
)
def test_a_stack_has_one_state(tmp_path: Path, loop: str, keep: Any) -> None:
    prefix, last = saved(tmp_path, two_cells, keep, loop)
    state = load_state(prefix)
    assert isinstance(state, StackState)
    assert [cell.cell for cell in state] == [
        f"rnn/multi_rnn_cell/cell_{k}/lstm_cell" for k in (0, 1)
    ]
    for (c, m), theirs in zip(state, last, strict=True):
        assert np.array_equal(c, theirs.c) and np.array_equal(m, theirs.h)


def test_named_states_of_a_stack_are_converted_together_and_run_from(
    tmp_path: Path, shell: Shell
) -> None:
    prefix, last = saved(tmp_path, two_cells, numbered, "dynamic")
    shell("convert", prefix, "--to-flat", "-o", tmp_path / "flat.npy", code=0)
    whole = np.concatenate([half for state in last for half in state], 1)
    assert np.array_equal(np.load(tmp_path / "flat.npy"), whole)
    x = np.zeros((BATCH, 1, INPUTS), "f4")
    np.save(tmp_path / "x.npy", x)
    done = shell("run", prefix, tmp_path / "x.npy", "--state", prefix, "--json", code=0)
    assert "zeros" not in done.err
    # A cell of the stack can still be selected alone.
    one = ["--variable", "state_1_c", "--variable", "state_1_m"]
    shell("convert", prefix, "--to-tuple", *one, "-o", tmp_path / "one.npz", code=0)
    assert np.array_equal(np.load(tmp_path / "one.npz")["c"], last[1].c)


def test_a_variable_that_is_only_assigned_is_not_an_initial_state(
    tmp_path: Path, shell: Shell
) -> None:
    prefix, _ = saved(tmp_path, square, by_half, "dynamic")
    np.save(tmp_path / "x.npy", np.zeros((BATCH, 1, INPUTS), "f4"))
    assert shell("run", prefix, tmp_path / "x.npy", "-q", code=0).err == ""
    assert "stored state" not in shell("run", prefix, tmp_path / "x.npy").err


def test_optimizer_updates_and_initial_values_are_not_states(tmp_path: Path) -> None:
    """Weights are assigned too: from an initializer, from a file, by an optimizer."""

    def build(tf: TensorFlow) -> Any:
        return tf.nn.rnn_cell.LSTMCell(4)

    def train(tf: TensorFlow, last: Any) -> list[Any]:
        loss = tf.reduce_mean(last.c)
        return [tf.train.AdamOptimizer(0.1).minimize(loss), to(tf, "mean", last.c * 0.5)]

    prefix, _ = saved(tmp_path, build, train, "dynamic")
    assert open_checkpoint(prefix).states == {}
