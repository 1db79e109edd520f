"""Values fed besides x and the state, and the placeholder for x."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell
from graphs import Array, assert_same, drawn, evaluated, ran

import lstmstate
from lstmstate import LSTMState, UnsupportedError
from lstmstate.model.network_loader import RunOptions

BATCH, STEPS, INPUTS, UNITS = 3, 5, 4, 6
STATE = LSTMState(drawn(BATCH, UNITS, seed=7) / 2, drawn(BATCH, UNITS, seed=8) / 2)
X = drawn(BATCH, STEPS, INPUTS)
DONE = (drawn(BATCH, STEPS, seed=3) > 0.3).astype("f4")


def episodes(by_step: bool) -> Any:
    """Steps of a policy over a flat batch, whose flags reset the states of ended episodes."""

    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [BATCH * STEPS, INPUTS], "x")
        done = tf.placeholder(tf.float32, [BATCH * STEPS], "done")
        state = tf.placeholder(tf.float32, [BATCH, 2 * UNITS], "state")
        sizes = (STEPS, BATCH) if by_step else (BATCH, STEPS)
        apart = [tf.reshape(one, [*sizes, -1]) for one in (x, done)]
        steps, flags = (tf.unstack(one, axis=0 if by_step else 1) for one in apart)
        wx = tf.get_variable("wx", [INPUTS, 4 * UNITS])
        wm = tf.get_variable("wm", [UNITS, 4 * UNITS])
        b = tf.get_variable("b", [4 * UNITS])
        c, m = tf.split(state, 2, 1)
        made = []
        for one, flag in zip(steps, flags, strict=True):
            c, m = c * (1.0 - flag), m * (1.0 - flag)
            i, f, o, j = tf.split(tf.matmul(one, wx) + tf.matmul(m, wm) + b, 4, 1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(j)
            m = tf.sigmoid(o) * tf.tanh(c)
            made.append(m)
        order = (1, 0) if by_step else (0, 1)
        fed = {
            x: X.transpose(*order, 2).reshape(-1, INPUTS),
            done: DONE.transpose(order).reshape(-1),
            state: np.concatenate([STATE.c, STATE.m], 1),
        }
        return [tf.stack(made, 1), c, m], fed

    return build


@pytest.mark.parametrize("by_step", [True, False])
def test_episode_flags_have_the_axes_of_the_graph(by_step: bool, tmp_path: Path) -> None:
    prefix, expected = evaluated(tmp_path, episodes(by_step))
    flat = (DONE.T if by_step else DONE).reshape(-1)
    for done in (DONE, flat):
        assert_same(ran(prefix, X, STATE, feeds={"done": done}), expected)
    with pytest.raises(UnsupportedError, match="done"):
        ran(prefix, X, STATE)


@pytest.mark.parametrize("value", [0, np.zeros(STEPS), np.zeros((BATCH, STEPS))])
def test_one_number_applies_to_every_step(value: Any, tmp_path: Path) -> None:
    prefix, _ = evaluated(tmp_path, episodes(False))
    zeros = np.zeros(BATCH * STEPS)
    expected = ran(prefix, X, STATE, feeds={"done": zeros}, engine="graph")
    assert_same(ran(prefix, X, STATE, feeds={"done": value}), expected)


@pytest.mark.filterwarnings("ignore:.*(exact and slower|x is the input of each step).*:UserWarning")
def test_an_array_may_be_fed_again_with_other_values(tmp_path: Path) -> None:
    prefix, _ = evaluated(tmp_path, episodes(False))
    network = lstmstate.open_checkpoint(prefix).network()
    done = np.zeros_like(DONE)
    before, _ = network.run(X, STATE, feeds={"done": done})
    done[...] = DONE
    after, _ = network.run(X, STATE, feeds={"done": done})
    expected, _ = lstmstate.open_checkpoint(prefix).network().run(X, STATE, feeds={"done": DONE})
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, expected)


@pytest.mark.filterwarnings("ignore:.*(exact and slower|x is the input of each step).*:UserWarning")
def test_unset_flags_change_nothing(tmp_path: Path) -> None:
    """A cell has no such product, so it is not confirmed, and the graph's step is run."""
    prefix, _ = evaluated(tmp_path, episodes(False))
    network = lstmstate.open_checkpoint(prefix).network()
    loaded = network.load(RunOptions(feeds={"done": 0}))
    assert (loaded.engine, loaded.confirmed) == ("graph", None)
    outputs, _ = network.run(X, STATE, feeds={"done": 0})
    recognised = network.load_recognised("numpy", {})
    expected = recognised.runner.run(X.swapaxes(0, 1), [(STATE.c, STATE.m)]).outputs
    np.testing.assert_allclose(outputs, expected.swapaxes(0, 1), atol=2e-6)


@pytest.mark.parametrize("steps", [1, STEPS])
def test_fed_values_choose_among_the_uses_of_a_cell(steps: int, tmp_path: Path) -> None:
    """A policy has a graph of one step for acting, and one of many steps for training."""

    def build(tf: Any) -> Any:
        found = {}
        for count in (1, STEPS):
            with tf.name_scope(f"over_{count}"), tf.variable_scope("cell", reuse=bool(found)):
                x = tf.placeholder(tf.float32, [BATCH, count, INPUTS], "x")
                done = tf.placeholder(tf.float32, [BATCH, count], "done")
                c, m = (tf.placeholder(tf.float32, [BATCH, UNITS], name) for name in ("c", "m"))
                fed = {x: X[:, :count], done: DONE[:, :count], c: STATE.c, m: STATE.m}
                cell = tf.nn.rnn_cell.BasicLSTMCell(UNITS)
                made = []
                for one, flag in zip(tf.unstack(x, axis=1), tf.unstack(done, axis=1), strict=True):
                    kept = [half * (1.0 - flag[:, None]) for half in (c, m)]
                    _, (c, m) = cell(one, tf.nn.rnn_cell.LSTMStateTuple(*kept))
                    made.append(m)
                found[count] = [tf.stack(made, 1), c, m], fed
        return found[steps]

    prefix, expected = evaluated(tmp_path, build)
    feeds = {f"over_{steps}/cell/done": DONE[:, :steps]}
    assert_same(ran(prefix, X[:, :steps], STATE, feeds=feeds), expected)


@pytest.mark.parametrize("kind", ["product", "choice"])
def test_flags_change_the_state_before_the_first_step(kind: str, tmp_path: Path) -> None:
    ended = np.array([0, 1, 0])

    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        c, m = (tf.placeholder(tf.float32, [BATCH, UNITS], name) for name in ("c0", "m0"))
        if kind == "product":
            done = tf.placeholder(tf.float32, [BATCH], "done")
            kept = [half * (1.0 - done[:, None]) for half in (c, m)]
        else:
            done = tf.placeholder(tf.bool, [BATCH], "done")
            kept = [tf.where(done, tf.zeros([BATCH, UNITS]), half) for half in (c, m)]
        start = tf.nn.rnn_cell.LSTMStateTuple(*kept)
        cell = tf.nn.rnn_cell.LSTMCell(UNITS)
        outputs, last = tf.nn.dynamic_rnn(cell, x, initial_state=start)
        return [outputs, *last], {x: X, done: ended, c: STATE.c, m: STATE.m}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, X, STATE, feeds={"done": ended}), expected)
    with pytest.raises(UnsupportedError, match=r"changes the state that it is fed.*value for done"):
        ran(prefix, X, STATE, engine="graph")


def test_flags_of_each_step_in_a_loop(tmp_path: Path) -> None:
    """They are true after the end of an episode, where the state is reset."""

    def build(tf: Any) -> Any:
        cell = tf.nn.rnn_cell.BasicLSTMCell(UNITS)

        class Reset(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
            state_size, output_size = cell.state_size, UNITS

            def __call__(self, given: Any, state: Any, scope: Any = None) -> Any:
                x, flag = given
                halves = [tf.where(flag[:, 0], tf.zeros_like(half), half) for half in state]
                return cell(x, tf.nn.rnn_cell.LSTMStateTuple(*halves))

        x = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        done = tf.placeholder(tf.bool, [None, None, 1], "done")
        c, m = (tf.placeholder(tf.float32, [None, UNITS], name) for name in ("c0", "m0"))
        start = tf.nn.rnn_cell.LSTMStateTuple(c, m)
        outputs, last = tf.nn.dynamic_rnn(Reset(), (x, done), initial_state=start)
        return [outputs, *last], {x: X, done: DONE[..., None], c: STATE.c, m: STATE.m}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, X, STATE, feeds={"done": DONE[..., None]}), expected)
    loaded = lstmstate.open_checkpoint(prefix).network().load(RunOptions(feeds={"done": False}))
    assert (loaded.engine, loaded.confirmed) == ("graph", None)


WIDE = 7


def behind_a_layer(tf: Any) -> Any:
    """Return a placeholder, and the input of another width that a loop reads."""
    x = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
    return x, tf.layers.dense(x, WIDE, tf.nn.relu)


def joined_with_flags(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
    more = tf.placeholder(tf.float32, [None, None, WIDE - INPUTS], "more")
    return x, tf.concat([x, more], 2)


MORE = drawn(BATCH, STEPS, WIDE - INPUTS, seed=4)


@pytest.mark.parametrize(
    ("before", "feeds"), [(behind_a_layer, {}), (joined_with_flags, {"more": MORE})]
)
def test_the_width_of_x_shows_its_placeholder(
    before: Any, feeds: dict[str, Array], shell: Shell, tmp_path: Path
) -> None:
    wide = drawn(BATCH, STEPS, WIDE, seed=5)

    def build(tf: Any) -> Any:
        x, read = before(tf)
        cell = tf.nn.rnn_cell.LSTMCell(UNITS)
        outputs, last = tf.nn.dynamic_rnn(cell, read, dtype=tf.float32)
        fed = {x: X} | {f"{name}:0": value for name, value in feeds.items()}
        return [outputs, *last], fed

    prefix, expected = evaluated(tmp_path, build)
    network = lstmstate.open_checkpoint(prefix).network()
    assert network.load().network.first.input_size == WIDE
    assert_same(ran(prefix, X, feeds=feeds), expected)
    assert ran(prefix, wide)[0].shape == (BATCH, STEPS, UNITS)
    for name, value in (("x", X), *feeds.items()):
        np.save(tmp_path / f"{name}.npy", value)
    given = [word for name in feeds for word in ("--feed", f"{name}={tmp_path / name}.npy")]
    out = tmp_path / "out.npz"
    done = shell("run", prefix, tmp_path / "x.npy", "-o", out, *given, code=0)
    assert "x is fed at x, before" in done.err
    assert_same([np.load(out)[name] for name in ("outputs", "c", "m")], expected)
    for name in feeds:
        fed = tmp_path / f"{name}.npy"
        done = shell("run", "-q", prefix, tmp_path / "x.npy", "-o", fed, "--force", *given, code=3)
        assert f"{fed}: this is the input, which is never written" in done.err
    np.save(tmp_path / "other.npy", drawn(BATCH, STEPS, 2))
    done = shell("run", prefix, tmp_path / "other.npy", "-o", tmp_path / "no.npz", *given, code=3)
    assert "too few columns: 2, and not 7" in done.err


def test_a_sequence_laid_out_by_fed_numbers(tmp_path: Path) -> None:
    """The batch and the steps are fed as scalars, and the rows of images one after the other."""

    def build(tf: Any) -> Any:
        rows = tf.placeholder(tf.float32, [None, 3], "rows")
        steps = tf.placeholder(tf.int32, [], "steps")
        batch = tf.placeholder(tf.int32, [], "batch")
        x = tf.reshape(tf.layers.dense(rows, INPUTS), [batch, steps, INPUTS])
        cell = tf.nn.rnn_cell.LSTMCell(UNITS)
        zeros = cell.zero_state(batch, tf.float32)
        outputs, last = tf.nn.dynamic_rnn(cell, x, initial_state=zeros)
        given = {rows: np.zeros((BATCH * STEPS, 3)), steps: STEPS, batch: BATCH}
        return [outputs, *last], given | {x: X, zeros.c: STATE.c, zeros.h: STATE.m}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, X, STATE), expected)


def test_a_stack_of_both_directions_without_loops(tmp_path: Path) -> None:
    """The second layer reads the steps of the first one also from their end."""

    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, STEPS, INPUTS], "x")
        value, states = tf.unstack(x, axis=1), []
        for layer in ("a", "b"):
            with tf.variable_scope(layer):
                cells = [tf.nn.rnn_cell.LSTMCell(UNITS) for _ in range(2)]
                value, *last = tf.nn.static_bidirectional_rnn(*cells, value, dtype=tf.float32)
            states += [half for state in last for half in state]
        return [tf.stack(value, 1), *states], {x: X}

    prefix, expected = evaluated(tmp_path, build)
    assert_same(ran(prefix, X), expected)


def test_names_of_nodes_in_functions_are_shown_without_their_numbers(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        words = tf.placeholder(tf.int32, [None], "words")
        x, y = (tf.placeholder(tf.float32, [None, None, INPUTS], name) for name in "xy")
        cell = tf.nn.rnn_cell.LSTMCell(UNITS)

        class Both(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
            state_size, output_size = cell.state_size, UNITS

            def __call__(self, given: Any, state: Any, scope: Any = None) -> Any:
                return cell(tf.concat(given, 1) * tf.cast(tf.size(words), tf.float32), state)

        outputs, last = tf.nn.dynamic_rnn(Both(), (x, y), dtype=tf.float32)
        return [outputs, *last], {x: X, y: X, words: [1]}

    prefix, _ = evaluated(tmp_path, build, functional=True)
    with pytest.raises(UnsupportedError) as raised:
        ran(prefix, X)
    assert "reads 2 inputs" in str(raised.value)
    assert "\0" not in str(raised.value) and "x00" not in str(raised.value)


def started(start: Callable[[Any, Any, Any], Any]) -> Callable[[Any], Any]:
    """A loop whose initial state is computed from a fed c and m."""

    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        c, m = (tf.placeholder(tf.float32, [None, UNITS], name) for name in ("c0", "m0"))
        state = tf.nn.rnn_cell.LSTMStateTuple(*start(tf, c, m))
        outputs, last = tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(UNITS), x, initial_state=state)
        return [outputs, *last], {x: X, c: STATE.c, m: STATE.m}

    return build


def layer(tf: Any, given: Any) -> Any:
    width = int(given.shape[-1])
    kernel = tf.get_variable("kernel", [width, UNITS])
    return tf.nn.bias_add(tf.matmul(given, kernel), tf.get_variable("bias", [UNITS]))


@pytest.mark.parametrize(
    "start",
    [
        lambda tf, c, m: (layer(tf, c), m),
        lambda tf, c, m: (c, tf.tanh(layer(tf, m))),
        lambda tf, c, m: (layer(tf, tf.concat([c, m], 1)), m),
    ],
)
def test_a_state_that_goes_through_a_layer_is_refused(start: Any, tmp_path: Path) -> None:
    prefix, _ = evaluated(tmp_path, started(start))
    with pytest.raises(UnsupportedError, match=r"changes the state that it is fed at .0 before"):
        ran(prefix, X, STATE)


@pytest.mark.parametrize(
    ("start", "note"),
    [
        (
            lambda tf, c, m: (c, tf.zeros_like(m)),
            "takes the initial c of rnn/lstm_cell from c0 and",
        ),
        (
            lambda tf, c, m: (tf.zeros_like(c), m),
            "takes the initial m of rnn/lstm_cell from m0 and",
        ),
        (
            lambda tf, c, m: (
                c,
                tf.tile(tf.get_variable("m1", [1, UNITS]), [tf.shape(c)[0], 1]),
            ),
            "takes the initial c of rnn/lstm_cell from c0 and computes m itself",
        ),
        (lambda tf, c, m: (c, c), "initial c and m of rnn/lstm_cell from one array, c0;"),
        (lambda tf, c, m: (c, m), None),
    ],
)
@pytest.mark.parametrize("engine", ["auto", "graph"])
def test_half_a_state_that_is_fed_is_noted(
    start: Any, note: str | None, engine: str, tmp_path: Path
) -> None:
    prefix, _ = evaluated(tmp_path, started(start))
    loaded = lstmstate.open_checkpoint(prefix).network().load(RunOptions(engine))
    found = [line for line in loaded.notes if "begins" in line]
    assert len(found) == (note is not None)
    assert note is None or note in found[0]


def in_turn(change: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """Two loops; the second starts from the last state of the first."""

    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        cells = [tf.nn.rnn_cell.LSTMCell(UNITS) for _ in range(2)]
        made, first = tf.nn.dynamic_rnn(cells[0], x, dtype=tf.float32, scope="one")
        start = tf.nn.rnn_cell.LSTMStateTuple(change(tf, first.c), first.h)
        outputs, last = tf.nn.dynamic_rnn(cells[1], made, initial_state=start, scope="two")
        return [outputs, *first, *last], {x: X}

    return build


@pytest.mark.covering(1)
@pytest.mark.parametrize("change", [lambda tf, c: c, layer])
@pytest.mark.parametrize("functional", [False, True])
def test_a_cell_starts_from_the_last_state_of_another(
    change: Any, functional: bool, tmp_path: Path
) -> None:
    prefix, expected = evaluated(tmp_path, in_turn(change), functional=functional)
    assert_same(ran(prefix, X), expected)
    network = lstmstate.open_checkpoint(prefix).network()
    assert (
        network.load()
        .notes[0]
        .endswith("begins two/lstm_cell with the final state of one/lstm_cell")
    )
    both = network.zero_state(BATCH)
    problem = (
        "begins two/lstm_cell with the final state of one/lstm_cell, and takes no state for it"
    )
    with pytest.raises(UnsupportedError, match=problem):
        ran(prefix, X, both)
    with pytest.raises(UnsupportedError, match="is not run in parts"):
        network.load().refuse_parts()


@pytest.mark.covering(1)
@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("reads", ["m", "a flag of m", "steps"])
def test_a_loop_that_may_end_early_is_refused(reads: str, functional: bool, tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, BATCH, INPUTS], "x")
        cell, count = tf.nn.rnn_cell.LSTMCell(UNITS), tf.shape(x)[0]
        array = tf.TensorArray(tf.float32, count, element_shape=[BATCH, INPUTS]).unstack(x)
        made = tf.TensorArray(tf.float32, count, element_shape=[BATCH, UNITS])

        def go_on(at: Any, flag: Any, c: Any, m: Any, made: Any) -> Any:
            other = {"m": tf.reduce_max(m) < 9.0, "a flag of m": flag, "steps": at >= 0}
            return tf.logical_and(at < count, other[reads])

        def step(at: Any, flag: Any, c: Any, m: Any, made: Any) -> Any:
            state = tf.nn.rnn_cell.LSTMStateTuple(c, m)
            output, (c, m) = cell(array.read(at), state)
            return at + 1, tf.reduce_max(m) < 9.0, c, m, made.write(at, output)

        zeros = tf.zeros([BATCH, UNITS])
        start = (0, tf.constant(True), zeros, zeros, made)
        _, _, c, m, made = tf.while_loop(go_on, step, start)
        return [made.stack(), c, m], {x: X.swapaxes(0, 1)}

    prefix, (outputs, *last) = evaluated(tmp_path, build, functional=functional)
    if reads == "steps":
        assert_same(ran(prefix, X), [outputs.swapaxes(0, 1), *last])
        return
    with pytest.raises(UnsupportedError, match="may end before the end of the sequence"):
        ran(prefix, X)
