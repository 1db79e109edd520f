"""Cells with convolutions, over sequences of lines and images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from commands import Shell
from writers import new_session, tensorflow

import lstmstate
from lstmstate import LSTMState, LstmstateError

Array = Any
BATCH, STEPS, CHANNELS, UNITS = 2, 4, 3, 5


class Case(NamedTuple):
    """A checkpoint, data for it, and TensorFlow's results."""

    prefix: str
    x: Array
    state: LSTMState
    outputs: Array
    last: LSTMState


def saved(tmp_path: Path, spatial: list[int]) -> Case:
    """Return a convolutional LSTM in a dynamic_rnn, over items with some spatial axes."""
    tf = tensorflow()
    shape = tf.TensorShape([*spatial, UNITS])
    filters = [3] * len(spatial)

    class Cell(tf.nn.rnn_cell.RNNCell):  # type: ignore[misc, name-defined]
        state_size = tf.nn.rnn_cell.LSTMStateTuple(shape, shape)
        output_size = shape

        def call(self, x: Any, state: Any) -> Any:
            kernel = tf.get_variable("kernel", [*filters, CHANNELS + UNITS, 4 * UNITS])
            bias = tf.get_variable("biases", [4 * UNITS])
            joined = tf.concat([x, state.h], -1)
            z = tf.nn.convolution(joined, kernel, padding="SAME") + bias
            i, j, f, o = tf.split(z, 4, -1)
            c = tf.sigmoid(f + 1.0) * state.c + tf.sigmoid(i) * tf.tanh(j)
            m = tf.sigmoid(o) * tf.tanh(c)
            return m, tf.nn.rnn_cell.LSTMStateTuple(c, m)

    random = np.random.default_rng(2)
    x = random.standard_normal((BATCH, STEPS, *spatial, CHANNELS)).astype("f4")
    c, m = (random.uniform(-1, 1, (BATCH, *spatial, UNITS)).astype("f4") for _ in "cm")
    with tf.Graph().as_default() as graph, new_session(tf, graph) as session:
        fed = tf.placeholder(tf.float32, [None, None, *spatial, CHANNELS], "x")
        halves = [tf.placeholder(tf.float32, [None, *spatial, UNITS], name) for name in ("c", "m")]
        start = tf.nn.rnn_cell.LSTMStateTuple(*halves)
        outputs, last = tf.nn.dynamic_rnn(Cell(name="conv_lstm_cell"), fed, initial_state=start)
        for variable in tf.global_variables():
            value = random.standard_normal(variable.shape.as_list()) * 0.3
            session.run(variable.assign(value.astype("f4")))
        found = session.run([outputs, *last], {fed: x, halves[0]: c, halves[1]: m})
        prefix = tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    return Case(prefix, x, LSTMState(c, m), found[0], LSTMState(*found[1:]))


def assert_same(outputs: Array, state: Any, case: Case) -> None:
    for found, wanted in zip([outputs, *state], [case.outputs, *case.last], strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.filterwarnings("ignore:.*the graph's own step is run")
@pytest.mark.parametrize("spatial", [[6], [4, 3]])
def test_a_convolution_runs_over_lines_and_images(spatial: list[int], tmp_path: Path) -> None:
    case = saved(tmp_path, spatial)
    network = lstmstate.open_checkpoint(case.prefix).network()
    assert_same(*network.run(case.x, case.state), case)
    one, last = network.run(case.x[0], LSTMState(case.state.c[:1], case.state.m[:1]))
    np.testing.assert_allclose(one, case.outputs[0], atol=2e-6)
    np.testing.assert_allclose(last.c, case.last.c[:1], atol=2e-6)
    first, _ = network.step(case.x[:, 0], case.state)
    np.testing.assert_allclose(first, case.outputs[:, 0], atol=2e-6)


def test_run_writes_states_with_their_spatial_axes(shell: Shell, tmp_path: Path) -> None:
    case = saved(tmp_path, [4, 3])
    x, before, after = (str(tmp_path / name) for name in ("x.npy", "state.npz", "out.npz"))
    np.save(x, case.x)
    np.savez(before, c=case.state.c, m=case.state.m)
    assert shell("run", case.prefix, x, "--state", before, "-o", after, "--all-states").code == 0
    with np.load(after) as found:
        assert_same(found["outputs"], (found["c"], found["m"]), case)
        np.testing.assert_array_equal(found["c_steps"][:, -1], found["c"])


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((BATCH, STEPS, 12 * CHANNELS), "takes [batch, time, 4, 3, 3]"),
        ((BATCH, STEPS, 3, 4, CHANNELS), "takes [batch, time, 4, 3, 3]"),
        ((BATCH, STEPS, 4, 3, 2), "too few columns: 2, and not 3"),
    ],
)
def test_inputs_with_other_spatial_axes_are_refused(
    shape: tuple[int, ...], words: str, shell: Shell, tmp_path: Path
) -> None:
    case = saved(tmp_path, [4, 3])
    x = str(tmp_path / "x.npy")
    np.save(x, np.zeros(shape, "f4"))
    assert words in shell("run", case.prefix, x, "-o", str(tmp_path / "out.npz"), code=3).err


@pytest.mark.filterwarnings("ignore:.*the graph's own step is run")
def test_a_state_with_other_spatial_axes_is_refused(tmp_path: Path) -> None:
    case = saved(tmp_path, [4, 3])
    network = lstmstate.open_checkpoint(case.prefix).network()
    turned = LSTMState(*(half.swapaxes(1, 2) for half in case.state))
    with pytest.raises(LstmstateError, match=r"axes batch and \[4, 3\] .* got \[2, 3, 4\]"):
        network.run(case.x, turned)
