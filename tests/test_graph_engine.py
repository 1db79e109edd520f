"""Cells that a user wrote, wrappers and layers around cells: run as TensorFlow runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from writers import tensorflow

import lstmstate
from lstmstate import LSTMState, UnsupportedError

Array = Any
Step = Callable[..., tuple[Any, Any, Any]]
BATCH, STEPS, INPUTS, UNITS = 3, 5, 4, 6


def user_cell(tf: Any, step: Step) -> Any:
    """Return a cell with TensorFlow's variables whose gates are put together by `step`."""

    class Cell(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
        state_size = tf.nn.rnn_cell.LSTMStateTuple(UNITS, UNITS)
        output_size = UNITS

        def call(self, x: Any, state: Any) -> Any:
            kernel = tf.get_variable("kernel", [int(x.shape[-1]) + UNITS, 4 * UNITS])
            bias = tf.get_variable("bias", [4 * UNITS])
            z = tf.nn.bias_add(tf.matmul(tf.concat([x, state.h], 1), kernel), bias)
            output, c, m = step(tf, x, state.c, state.h, tf.split(z, 4, 1))
            return output, tf.nn.rnn_cell.LSTMStateTuple(c, m)

    return Cell(name="lstm_cell")


def plain(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    i, j, f, o = z
    c = tf.sigmoid(f + 1.0) * c + tf.sigmoid(i) * tf.tanh(j)
    m = tf.sigmoid(o) * tf.tanh(c)
    return m, c, m


def scaled(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    _, c, _ = plain(tf, x, c, m, z)
    m = tf.sigmoid(z[3]) * tf.tanh(0.9 * c)
    return m, 0.9 * c, m


def far_clip(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    """A clip of the carried c that only large values reach."""
    m, c, _ = plain(tf, x, c, m, z)
    return m, tf.minimum(tf.maximum(c, -500.0), 500.0), m


def zoneout(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    _, new_c, new_m = plain(tf, x, c, m, z)
    c, m = 0.1 * c + 0.9 * new_c, 0.2 * m + 0.8 * new_m
    return m, c, m


def skips(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
    _, new_c, new_m = plain(tf, x, c, m, z)
    keep = tf.tile(x[:, :1] < 0.0, [1, UNITS])
    c, m = tf.where(keep, c, new_c), tf.where(keep, m, new_m)
    return m, c, m


def saved(
    tmp_path: Path, build: Callable[[Any, Any, Any], tuple[Any, Any]], width: int = INPUTS
) -> tuple[str, Array, LSTMState, list[Array]]:
    """Return a checkpoint, data for it, and what TensorFlow makes of them."""
    tf = tensorflow()
    random = np.random.default_rng(1)
    x = random.standard_normal((BATCH, STEPS, width)).astype("f4")
    c, m = (random.uniform(-1, 1, (BATCH, UNITS)).astype("f4") for _ in range(2))
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        fed = tf.placeholder(tf.float32, [None, None, width], "x")
        halves = [tf.placeholder(tf.float32, [None, UNITS], name) for name in ("c0", "m0")]
        outputs, last = build(tf, fed, tf.nn.rnn_cell.LSTMStateTuple(*halves))
        for variable in tf.global_variables():
            value = random.standard_normal(variable.shape.as_list()) * 0.5
            session.run(variable.assign(value.astype("f4")))
        expected = session.run([outputs, *last], {fed: x, halves[0]: c, halves[1]: m})
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    return prefix, x, LSTMState(c, m), expected


def in_loop(step: Step) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    return lambda tf, x, state: tf.nn.dynamic_rnn(user_cell(tf, step), x, initial_state=state)


@pytest.mark.parametrize(
    ("step", "engine"),
    [
        (plain, "numpy"),
        (scaled, "graph"),
        (far_clip, "graph"),
        (zoneout, "graph"),
        (skips, "graph"),
    ],
)
def test_a_user_written_cell_is_confirmed_or_its_own_step_is_run(
    step: Step, engine: str, tmp_path: Path
) -> None:
    prefix, x, state, expected = saved(tmp_path, in_loop(step))
    network = lstmstate.open_checkpoint(prefix).network()
    loaded = network.load()
    assert (loaded.engine, loaded.confirmed) == (engine, True if engine == "numpy" else None)
    ran = loaded.runner.run(x.swapaxes(0, 1), [(state.c, state.m)], keep="cm")
    for found, wanted in zip([ran.outputs.swapaxes(0, 1), *ran.states[0]], expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-6)
    np.testing.assert_array_equal(ran.kept[0]["c"][-1], ran.states[0][0])


def test_a_cell_that_the_graph_contradicts_is_not_run_by_another_engine(tmp_path: Path) -> None:
    prefix, *_ = saved(tmp_path, in_loop(scaled))
    network = lstmstate.open_checkpoint(prefix).network()
    for engine in ("numpy", "tensorflow"):
        with pytest.raises(UnsupportedError, match="contradicts"):
            network.load(engine)


def test_sequences_of_unequal_lengths_end_as_they_would_alone(tmp_path: Path) -> None:
    prefix, x, state, _ = saved(tmp_path, in_loop(zoneout))
    loaded = lstmstate.open_checkpoint(prefix).network().load()
    lengths = np.array([5, 2, 0])
    ran = loaded.runner.run(x.swapaxes(0, 1), [(state.c, state.m)], lengths, "m")
    for row, length in enumerate(lengths[:2]):
        alone = loaded.runner.run(
            x[row : row + 1, :length].swapaxes(0, 1),
            [(state.c[row : row + 1], state.m[row : row + 1])],
        )
        np.testing.assert_allclose(ran.states[0][0][row], alone.states[0][0][0], atol=1e-6)
        np.testing.assert_allclose(ran.outputs[:length, row], alone.outputs[:, 0], atol=1e-6)
        assert not ran.outputs[length:, row].any()
    np.testing.assert_array_equal(ran.states[0][0][2], state.c[2])


def test_a_dense_layer_before_the_loop_is_part_of_the_network(tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        weights = tf.get_variable("dense/kernel", [INPUTS, INPUTS])
        dense = tf.tanh(tf.einsum("bti,ij->btj", x, weights))
        return tf.nn.dynamic_rnn(user_cell(tf, plain), dense, initial_state=state)

    prefix, x, state, expected = saved(tmp_path, build)
    loaded = lstmstate.open_checkpoint(prefix).network().load()
    assert loaded.engine == "graph"
    ran = loaded.runner.run(x.swapaxes(0, 1), [(state.c, state.m)])
    np.testing.assert_allclose(ran.outputs.swapaxes(0, 1), expected[0], atol=2e-6)


def test_an_output_that_is_not_m_has_to_be_chosen(tmp_path: Path) -> None:
    def step(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
        _, c, m = plain(tf, x, c, m, z)
        return tf.nn.relu(m) + 1.0, c, m

    prefix, x, state, expected = saved(tmp_path, in_loop(step))
    network = lstmstate.open_checkpoint(prefix).network()
    with pytest.raises(UnsupportedError, match="not its m"):
        network.load()
    with pytest.warns(UserWarning, match="own step is run"):
        outputs, _ = network.run(x, state, outputs="graph")
    np.testing.assert_allclose(outputs, expected[0], atol=2e-6)
    of_m = network.load(outputs="m")
    assert (of_m.engine, of_m.confirmed) == ("numpy", True)


def test_a_fed_state_that_the_graph_changes_is_refused(tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        half = tf.nn.rnn_cell.LSTMStateTuple(state.c * 0.5, state.h)
        return tf.nn.dynamic_rnn(user_cell(tf, plain), x, initial_state=half)

    prefix, *_ = saved(tmp_path, build)
    with pytest.raises(UnsupportedError, match="changes the state"):
        lstmstate.open_checkpoint(prefix).network().load()


def test_another_placeholder_is_fed_or_named(tmp_path: Path) -> None:
    def build(tf: Any, x: Any, state: Any) -> Any:
        rate = tf.placeholder_with_default(1.0, [], "rate")
        gain = tf.placeholder(tf.float32, [], "gain")

        def step(tf: Any, x: Any, c: Any, m: Any, z: Any) -> tuple[Any, Any, Any]:
            return plain(tf, x, c * rate * gain, m, z)

        return tf.nn.dynamic_rnn(user_cell(tf, step), x, initial_state=state)

    tf = tensorflow()
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        x = tf.placeholder(tf.float32, [None, None, INPUTS], "x")
        zeros = tf.zeros([BATCH, UNITS])
        build(tf, x, tf.nn.rnn_cell.LSTMStateTuple(zeros, zeros))
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    network = lstmstate.open_checkpoint(prefix).network()
    with pytest.raises(UnsupportedError, match="gain"):
        network.load()
    assert network.load(feeds={"gain": 1.0}).confirmed
    assert network.load(feeds={"gain": 0.5}).engine == "graph"
    with pytest.raises(lstmstate.LstmstateError, match="no such placeholder"):
        network.load(feeds={"nothing": 1.0})


@pytest.mark.parametrize(
    ("lengths", "engine"),
    [
        (lambda tf, x: tf.fill([tf.shape(x)[0]], 4), "graph"),
        (lambda tf, x: tf.constant([4] * BATCH), "graph"),
        (lambda tf, x: tf.placeholder(tf.int32, [None], "lengths"), "numpy"),
    ],
)
def test_lengths_that_the_graph_sets_itself_are_its_own(
    lengths: Callable[[Any, Any], Any], engine: str, tmp_path: Path
) -> None:
    """The steps that are tried are fewer than four: only the graph shows where it ends."""

    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cell, given = user_cell(tf, plain), lengths(tf, x)
        outputs, last = tf.nn.dynamic_rnn(cell, x, sequence_length=given, initial_state=state)
        if given.op.type == "Placeholder":
            return tf.zeros([]), last._replace(c=tf.zeros([]), h=tf.zeros([]))
        return outputs, last

    prefix, x, state, expected = saved(tmp_path, build)
    loaded = lstmstate.open_checkpoint(prefix).network().load()
    assert loaded.engine == engine
    if engine == "graph":
        ran = loaded.runner.run(x.swapaxes(0, 1), [(state.c, state.m)])
        for found, wanted in zip(
            [ran.outputs.swapaxes(0, 1), *ran.states[0]], expected, strict=True
        ):
            np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_a_second_sequence_is_fed_with_the_sizes_of_the_first(tmp_path: Path) -> None:
    """As PhasedLSTMCell takes the time of each step."""
    times = np.random.default_rng(5).uniform(0, 1, (BATCH, STEPS, 1)).astype("f4")

    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cell = user_cell(tf, plain)

        class Timed(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
            state_size, output_size = cell.state_size, cell.output_size

            def __call__(self, given: Any, state: Any, scope: Any = None) -> Any:
                value, time = given
                m, last = cell(value, state)
                return m, last._replace(c=last.c * (1.0 - time))

        fed = tf.placeholder_with_default(times, [None, None, 1], "times")
        return tf.nn.dynamic_rnn(Timed(), (x, fed), initial_state=state)

    prefix, x, state, expected = saved(tmp_path, build)
    loaded = lstmstate.open_checkpoint(prefix).network().load(feeds={"times": times})
    assert loaded.engine == "graph"
    ran = loaded.runner.run(x.swapaxes(0, 1), [(state.c, state.m)])
    for found, wanted in zip([ran.outputs.swapaxes(0, 1), *ran.states[0]], expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.filterwarnings("ignore:.*BasicLSTMCell. is deprecated")
def test_a_state_that_is_not_given_is_noted(tmp_path: Path) -> None:
    """One cell in both layers of a stack has two states, and one name."""

    def build(tf: Any, x: Any, state: Any) -> tuple[Any, Any]:
        cell = tf.nn.rnn_cell.BasicLSTMCell(UNITS)
        stack = tf.nn.rnn_cell.MultiRNNCell([cell, cell])
        zeros = stack.zero_state(BATCH, tf.float32)
        outputs, last = tf.nn.dynamic_rnn(stack, x, initial_state=(state, zeros[1]))
        return outputs, last[0]

    prefix, x, state, expected = saved(tmp_path, build, width=UNITS)
    loaded = lstmstate.open_checkpoint(prefix).network().load()
    assert any("carries 2 more values" in note for note in loaded.notes)
    ran = loaded.runner.run(x.swapaxes(0, 1), [(state.c, state.m)])
    np.testing.assert_allclose(ran.outputs.swapaxes(0, 1), expected[0], atol=2e-6)
