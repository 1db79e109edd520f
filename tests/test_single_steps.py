"""Graphs of a single step, for sampling or acting, run over many steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell
from graphs import Array, assert_same, drawn, ran
from writers import as_in_1_x, new_session, tensorflow

import lstmstate
from lstmstate import LSTMState, UnsupportedError
from lstmstate.model.network_loader import RunOptions

BATCH, STEPS, INPUTS, UNITS = 3, 5, 4, 6
STATE = LSTMState(drawn(BATCH, UNITS, seed=7) / 2, drawn(BATCH, UNITS, seed=8) / 2)
Step = Callable[..., tuple[Any, Any, Any]]


def stepped(
    folder: Path, build: Callable[[Any], Any], x: Array, given: dict[str, Array] | None = None
) -> tuple[str, list[Array]]:
    """Save a graph of a step; return its prefix, and TensorFlow's results for many steps.

    Args:
        build: returns x, c and m as they are fed, the output, the new c and m.
        given: values of other placeholders for each step, `[batch, steps, …]`.
    """
    tf = tensorflow()
    with as_in_1_x(tf):
        fed, c, m, *fetches = build(tf)
        with new_session(tf) as session:
            session.run(tf.global_variables_initializer())
            for at, variable in enumerate(tf.global_variables()):
                shape = variable.shape.as_list()
                session.run(variable.assign(drawn(*shape, seed=at) * 0.5))
            outputs, halves = [], list(STATE)
            for at in range(STEPS):
                one = x[:, at] if len(fed.shape) == 2 else x[:, at : at + 1]
                feeds = {fed: one, c: halves[0], m: halves[1]}
                feeds |= {f"{name}:0": values[:, at] for name, values in (given or {}).items()}
                output, *halves = session.run(fetches, feeds)
                outputs.append(output.reshape(BATCH, -1))
            prefix = tf.train.Saver().save(session, str(folder / "model.ckpt"))
    return prefix, [np.stack(outputs, 1), *halves]


def halves(tf: Any, width: int = UNITS) -> list[Any]:
    return [tf.placeholder(tf.float32, [None, width], name) for name in ("c0", "m0")]


def called_once(make: Callable[[Any], Any], width: int = INPUTS) -> Callable[[Any], Any]:
    def build(tf: Any) -> Any:
        x, (c, m) = tf.placeholder(tf.float32, [None, width], "x"), halves(tf)
        output, last = make(tf)(x, tf.nn.rnn_cell.LSTMStateTuple(c, m))
        return x, c, m, output, *last

    return build


def by_hand(tf: Any) -> Any:
    """Separate matrices of x and m, as users write it."""
    x, (c, m) = tf.placeholder(tf.float32, [None, INPUTS], "x"), halves(tf)
    z = tf.matmul(x, tf.get_variable("wx", [INPUTS, 4 * UNITS]))
    z += tf.matmul(m, tf.get_variable("wm", [UNITS, 4 * UNITS])) + tf.get_variable("b", [4 * UNITS])
    i, f, o, j = tf.split(z, 4, 1)
    new_c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(j)
    new_m = tf.sigmoid(o) * tf.tanh(new_c)
    return x, c, m, new_m, new_c, new_m


def sampling(tf: Any) -> Any:
    """Token ids of one step, looked up and split."""
    words = tf.placeholder(tf.int32, [BATCH, 1], "words")
    table = tf.get_variable("table", [9, INPUTS])
    x = tf.squeeze(tf.split(tf.nn.embedding_lookup(table, words), 1, 1)[0], [1])
    c, m = halves(tf)
    output, last = tf.nn.rnn_cell.BasicLSTMCell(UNITS)(x, tf.nn.rnn_cell.LSTMStateTuple(c, m))
    tf.layers.dense(output, 9)
    return x, c, m, output, *last


def behind_a_layer(tf: Any) -> Any:
    x, (c, m) = tf.placeholder(tf.float32, [None, INPUTS], "x"), halves(tf)
    made = tf.layers.dense(x, INPUTS, tf.nn.relu)
    output, last = tf.nn.rnn_cell.LSTMCell(UNITS)(made, tf.nn.rnn_cell.LSTMStateTuple(c, m))
    return x, c, m, output, *last


def behind_a_wide_layer(tf: Any) -> Any:
    x, (c, m) = tf.placeholder(tf.float32, [None, INPUTS], "x"), halves(tf)
    made = tf.layers.dense(x, INPUTS + 3, tf.nn.relu)
    output, last = tf.nn.rnn_cell.LSTMCell(UNITS)(made, tf.nn.rnn_cell.LSTMStateTuple(c, m))
    return x, c, m, output, *last


def in_a_loop(tf: Any) -> Any:
    """A loop of one step, around a cell of no known family."""
    x, (c, m) = tf.placeholder(tf.float32, [None, 1, INPUTS], "x"), halves(tf)
    start = tf.nn.rnn_cell.LSTMStateTuple(c, m)
    output, last = tf.nn.dynamic_rnn(user_cell(tf, mixed), x, initial_state=start)
    return x, c, m, output, *last


@pytest.mark.parametrize(
    "build",
    [
        called_once(lambda tf: tf.nn.rnn_cell.LSTMCell(UNITS)),
        called_once(lambda tf: tf.nn.rnn_cell.LSTMCell(UNITS, use_peepholes=True, cell_clip=0.5)),
        called_once(lambda tf: tf.nn.rnn_cell.LSTMCell(UNITS), width=UNITS),
        by_hand,
        sampling,
        behind_a_layer,
        behind_a_wide_layer,
        in_a_loop,
    ],
)
def test_a_step_is_run_over_many(build: Callable[[Any], Any], tmp_path: Path) -> None:
    width = (
        UNITS
        if build.__closure__ and UNITS in [c.cell_contents for c in build.__closure__]
        else INPUTS
    )
    x = drawn(BATCH, STEPS, width)
    prefix, expected = stepped(tmp_path, build, x)
    assert_same(ran(prefix, x, STATE), expected)


def test_a_projection_is_part_of_a_step(tmp_path: Path) -> None:
    x = drawn(BATCH, STEPS, INPUTS)

    def build(tf: Any) -> Any:
        fed, (c, _) = tf.placeholder(tf.float32, [None, INPUTS], "x"), halves(tf)
        m = tf.placeholder(tf.float32, [None, 2], "m")
        cell = tf.nn.rnn_cell.LSTMCell(UNITS, num_proj=2, proj_clip=0.2)
        output, last = cell(fed, tf.nn.rnn_cell.LSTMStateTuple(c, tf.identity(m)))
        return fed, c, m, output, *last

    tf = tensorflow()
    with as_in_1_x(tf):
        fed, c, m, *fetches = build(tf)
        with new_session(tf) as session:
            session.run(tf.global_variables_initializer())
            both, outputs = [STATE.c, STATE.m[:, :2]], []
            for at in range(STEPS):
                output, *both = session.run(fetches, {fed: x[:, at], c: both[0], m: both[1]})
                outputs.append(output)
            prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    found = ran(prefix, x, LSTMState(STATE.c, STATE.m[:, :2]))
    assert_same(found, [np.stack(outputs, 1), *both])


def user_cell(tf: Any, change: Step) -> Any:
    class Cell(tf.nn.rnn_cell.LSTMCell):  # type: ignore[misc, name-defined]
        def call(self, x: Any, state: Any) -> Any:
            _, (c, m) = super().call(x, state)
            c, m, output = change(tf, c, m, state)
            return output, tf.nn.rnn_cell.LSTMStateTuple(c, m)

    return Cell(UNITS, name="lstm_cell")


def mixed(tf: Any, c: Any, m: Any, old: Any) -> tuple[Any, Any, Any]:
    return 0.9 * c + 0.1 * old.c, 0.8 * m + 0.2 * old.h, m


@pytest.mark.parametrize(
    "change",
    [
        mixed,
        lambda tf, c, m, old: (0.9 * c, m, m),
        lambda tf, c, m, old: (c, 0.9 * m, m),
        lambda tf, c, m, old: (tf.where(m > 0.0, c, old.c), m, m),
    ],
)
def test_a_step_that_enlarges_its_state_is_refused(change: Step, tmp_path: Path) -> None:
    """The graph does not show which of the two is fed to the next step."""
    x = drawn(BATCH, STEPS, INPUTS)
    prefix, _ = stepped(tmp_path, called_once(lambda tf: user_cell(tf, change)), x)
    with pytest.raises(UnsupportedError, match="takes 1 step and then changes its"):
        ran(prefix, x, STATE)


def test_matrices_of_equal_shapes_do_not_show_which_multiplies_m(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x, (c, m) = tf.placeholder(tf.float32, [None, UNITS], "x"), halves(tf)
        z = tf.matmul(x, tf.get_variable("w", [UNITS, 4 * UNITS]))
        z += tf.matmul(m, tf.get_variable("u", [UNITS, 4 * UNITS])) + tf.get_variable("b", [24])
        i, f, o, j = tf.split(z, 4, 1)
        new_c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(j)
        new_m = tf.sigmoid(o) * tf.tanh(new_c)
        return x, c, m, new_m, new_c, new_m

    x = drawn(BATCH, STEPS, UNITS)
    prefix, _ = stepped(tmp_path, build, x)
    with pytest.raises(UnsupportedError, match="does not step these cells"):
        ran(prefix, x, STATE, engine="graph")


def episodes(tf: Any, shape: tuple[int | None, ...] = (None,)) -> Any:
    """The flags of ended episodes set the states to zero."""
    x, (c, m) = tf.placeholder(tf.float32, [None, INPUTS], "x"), halves(tf)
    done = tf.placeholder(tf.float32, shape, "done")
    kept = [half * (1.0 - tf.reshape(done, [-1, 1])) for half in (c, m)]
    output, last = tf.nn.rnn_cell.LSTMCell(UNITS)(x, tf.nn.rnn_cell.LSTMStateTuple(*kept))
    return x, c, m, output, *last


@pytest.mark.parametrize("shape", [(None,), (BATCH,), (None, 1), (BATCH, 1)])
def test_each_step_gets_its_own_fed_values(shape: tuple[int | None, ...], tmp_path: Path) -> None:
    x = drawn(BATCH, STEPS, INPUTS)
    done = (drawn(BATCH, STEPS, seed=3) > 0.3).astype("f4")
    taken = done.reshape(BATCH, STEPS, *[1] * (len(shape) - 1))
    build = partial(episodes, shape=shape)
    prefix, expected = stepped(tmp_path, build, x, {"done": taken})
    for values in (done, taken):
        assert_same(ran(prefix, x, STATE, feeds={"done": values}), expected)
    other = tmp_path / "other"
    other.mkdir()
    everywhere = np.repeat(taken[:1], BATCH, 0)
    prefix, expected = stepped(other, build, x, {"done": everywhere})
    assert_same(ran(prefix, x, STATE, feeds={"done": done[0]}), expected)


def test_values_that_may_be_per_step_or_per_sequence_are_refused(
    tmp_path: Path,
) -> None:
    x = drawn(BATCH, STEPS, INPUTS)
    prefix, _ = stepped(tmp_path, episodes, x, {"done": np.zeros((BATCH, STEPS))})
    with pytest.raises(UnsupportedError, match="3 values may be for the steps or for the seq"):
        ran(prefix, x[:, :BATCH], STATE, feeds={"done": np.array([1.0, 0.0, 1.0])})


def test_a_single_step_in_both_directions_is_not_run_over_many(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x, (c, m) = tf.placeholder(tf.float32, [None, 1, INPUTS], "x"), halves(tf)
        cells = [user_cell(tf, mixed) for _ in range(2)]
        start = tf.nn.rnn_cell.LSTMStateTuple(c, m)
        outputs, last = tf.nn.bidirectional_dynamic_rnn(
            *cells, x, initial_state_fw=start, initial_state_bw=start
        )
        return x, c, m, tf.concat(outputs, 2), *last[0]

    x = drawn(BATCH, STEPS, INPUTS)
    prefix, _ = stepped(tmp_path, build, x)
    with pytest.raises(UnsupportedError, match="built for 1 step|expected steps 1"):
        ran(prefix, x, engine="graph")


def test_a_step_that_needs_flags_is_refused_without_them(tmp_path: Path) -> None:
    x = drawn(BATCH, STEPS, INPUTS)
    prefix, _ = stepped(tmp_path, episodes, x, {"done": np.zeros((BATCH, STEPS))})
    with pytest.raises(UnsupportedError, match=r"done"):
        ran(prefix, x, STATE)
    assert lstmstate.open_checkpoint(prefix).network().load(RunOptions(feeds={"done": 0})).confirmed


def test_a_fed_value_makes_an_export_and_a_state(shell: Shell, tmp_path: Path) -> None:
    done = np.zeros((BATCH, STEPS))
    prefix, _ = stepped(tmp_path, episodes, drawn(BATCH, STEPS, INPUTS), {"done": done})
    words = ["--to", "gates", "-o", tmp_path / "g.npz"]
    assert "--feed NAME=VALUE" in shell("export", prefix, *words, code=3).err
    found = shell.json("export", prefix, *words, "--feed", "done=0", "--check")
    assert found["largest_difference"] < 2e-6
    assert "The graph was read with `done = 0`." in Path(found["readme"]).read_text()
    made = lstmstate.export(prefix, tmp_path / "p.npz", to="gates", feeds={"done": 0})
    assert "The graph was read with `done = 0`." in Path(made.paths[-1]).read_text()
    target = tmp_path / "s.npz"
    shell("state", prefix, "--zeros", "-o", target, code=0)  # needs the widths alone
    assert lstmstate.load_state(target).c.shape == (1, UNITS)
