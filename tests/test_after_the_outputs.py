"""Notes on operations that a graph applies to the outputs of its LSTM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Shell, notes
from writers import TensorFlow, as_in_1_x, new_session, save, tensorflow

Tensor = Any
After = Callable[[TensorFlow, Tensor, Tensor], object]  # (tf, x, the outputs)
BATCH, STEPS, UNITS = 3, 7, 5  # x is as wide as the cell has units

GOES_ON = "the graph goes on after the outputs, and that is not run: "


def one(tf: TensorFlow, x: Tensor, **how: Any) -> Tensor:
    return tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(UNITS), x, dtype=tf.float32, **how)[0]


def both(tf: TensorFlow, x: Tensor) -> Tensor:
    cells = [tf.nn.rnn_cell.LSTMCell(UNITS) for _ in range(2)]
    return tf.nn.bidirectional_dynamic_rnn(*cells, x, dtype=tf.float32)[0]


def unrolled(tf: TensorFlow, x: Tensor) -> Tensor:
    cell = tf.nn.rnn_cell.LSTMCell(UNITS)
    return tf.nn.static_rnn(cell, tf.unstack(x, STEPS, 1), dtype=tf.float32)[0]


def normed(tf: TensorFlow, x: Tensor, m: Tensor) -> Tensor:
    mean, variance = tf.nn.moments(m, [2], keepdims=True)
    gain = tf.get_variable("gain", [UNITS])
    return tf.nn.batch_normalization(m, mean, variance, None, gain, 1e-6)


def trained(tf: TensorFlow, value: Tensor) -> None:
    """Train towards labels in the shape of the outputs."""
    wanted = tf.placeholder(tf.float32, [None, None, UNITS], "wanted")
    loss = tf.reduce_mean(tf.square(value - wanted))
    tf.train.GradientDescentOptimizer(0.1).minimize(loss)


def pooled(tf: TensorFlow, x: Tensor, m: Tensor) -> Tensor:
    score = tf.nn.softmax(tf.tensordot(m, tf.get_variable("score", [UNITS]), 1))
    return tf.reduce_sum(m * score[:, :, None], 1)


def mapped(tf: TensorFlow, x: Tensor, m: Tensor) -> Tensor:
    return tf.map_fn(tf.tanh, tf.transpose(m, [1, 0, 2]))


NOTED: dict[str, tuple[Callable[..., Tensor], After, str]] = {
    "a mask": (one, lambda tf, x, m: m * tf.cast(x[:, :, :1] > 0.0, tf.float32), "Mul"),
    "a mask of some steps": (one, lambda tf, x, m: m * np.ones((1, STEPS, 1), "f4"), "Mul"),
    "a residual": (one, lambda tf, x, m: x + m, "AddV2"),
    "a norm": (one, normed, "Rsqrt"),
    "an activation, and a layer": (
        one,
        lambda tf, x, m: tf.matmul(tf.reshape(tf.nn.relu(m), [-1, UNITS]), tf.ones([UNITS, 2])),
        "Relu",
    ),
    "an activation that is trained": (one, lambda tf, x, m: trained(tf, tf.tanh(m)), "Tanh"),
    "every second step": (one, lambda tf, x, m: m[:, ::2], "StridedSlice"),
    "other steps first": (one, lambda tf, x, m: tf.concat([m[:, 1:], m[:, :1]], 1), "ConcatV2"),
    "a map": (one, mapped, ""),
    "another loop": (
        one,
        lambda tf, x, m: tf.nn.dynamic_rnn(
            tf.nn.rnn_cell.GRUCell(UNITS), m, dtype=tf.float32, scope="second"
        ),
        "the loop second/",
    ),
    "itself": (one, lambda tf, x, m: tf.matmul(tf.nn.softmax(tf.matmul(m, m, False, True)), m), ""),
    "a sum of directions": (both, lambda tf, x, m: m[0] + m[1], "AddV2"),
    "a mean of directions": (both, lambda tf, x, m: tf.reduce_mean(tf.stack(m), 0), "Mean"),
    "the other direction first": (both, lambda tf, x, m: tf.concat(m[::-1], 2), "ConcatV2"),
    "a clip of steps": (
        unrolled,
        lambda tf, x, m: tf.clip_by_value(tf.stack(m, 1), -0.1, 0.1),
        "Minimum",
    ),
    "each step": (unrolled, lambda tf, x, m: [tf.stack(m), tf.stack([*map(tf.tanh, m)])], "Tanh"),
    "some of the steps": (unrolled, lambda tf, x, m: [tf.stack(m), tf.stack(m[::2])], "Pack"),
}
QUIET: dict[str, tuple[Callable[..., Tensor], After]] = {
    "nothing": (one, lambda tf, x, m: m),
    "a layer": (one, lambda tf, x, m: tf.tensordot(m, tf.get_variable("w", [UNITS, UNITS]), 1)),
    "the last step": (one, lambda tf, x, m: tf.tanh(m[:, -1])),
    "a sum over steps": (one, pooled),
    "dropout": (
        one,
        lambda tf, x, m: tf.matmul(tf.nn.dropout(m, rate=0.5)[0], tf.ones([UNITS, 2])),
    ),
    "a loss": (one, lambda tf, x, m: trained(tf, m)),
    "a penalty": (one, lambda tf, x, m: tf.reduce_mean(tf.square(m[:, 1:] - m[:, :-1]))),
    "other axes": (one, lambda tf, x, m: tf.identity(tf.transpose(m, [1, 0, 2]))),
    "both directions": (both, lambda tf, x, m: tf.concat(m, 2)),
    "the steps": (unrolled, lambda tf, x, m: [tf.stack(m, 1), tf.tanh(m[-1])]),
}


def saved(folder: Path, rnn: Callable[..., Tensor], after: After, functional: bool = False) -> str:
    def build(tf: TensorFlow) -> None:
        x = tf.placeholder(tf.float32, [None, None, UNITS], "x")
        after(tf, x, rnn(tf, x))

    np.save(folder / "x.npy", np.ones((BATCH, STEPS, UNITS), "f4"))
    return save(folder, build, functional=functional)


def output_notes(shell: Shell, prefix: str, folder: Path, *flags: str) -> list[str]:
    """Return the notes of a run on operations after the outputs."""
    done = shell("run", prefix, folder / "x.npy", *flags, code=0)
    return [line.removeprefix(GOES_ON) for line in notes(done) if line.startswith(GOES_ON)]


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", NOTED)
@pytest.mark.parametrize("functional", [False, True])
def test_operations_on_the_outputs_are_noted(
    tmp_path: Path, shell: Shell, name: str, functional: bool
) -> None:
    rnn, after, operation = NOTED[name]
    prefix = saved(tmp_path, rnn, after, functional)
    (line,) = output_notes(shell, prefix, tmp_path)
    assert operation in line
    assert line.endswith("; --outputs m asks for m itself")
    strict = shell("run", prefix, tmp_path / "x.npy", "--strict", "--zero-state", code=3)
    assert GOES_ON in strict.err
    assert not output_notes(shell, prefix, tmp_path, "--outputs", "m", "--strict")


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", QUIET)
@pytest.mark.parametrize("functional", [False, True])
def test_layers_the_last_step_and_training_need_no_note(
    tmp_path: Path, shell: Shell, name: str, functional: bool
) -> None:
    assert not output_notes(shell, saved(tmp_path, *QUIET[name], functional), tmp_path)


def test_the_outputs_are_m_before_any_later_operation(tmp_path: Path, shell: Shell) -> None:
    tf, prefix = tensorflow(), str(tmp_path / "model.ckpt")
    data = np.random.default_rng(1).standard_normal((BATCH, STEPS, UNITS)).astype("f4")
    np.save(tmp_path / "x.npy", data)
    with as_in_1_x(tf), new_session(tf) as session:
        x = tf.placeholder(tf.float32, [None, None, UNITS], "x")
        m = one(tf, x)
        tf.tanh(m)
        session.run(tf.global_variables_initializer())
        expected = session.run(m, {x: data})
        tf.train.Saver().save(session, prefix)
    shell("run", prefix, tmp_path / "x.npy", "-o", tmp_path / "y.npz", code=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["outputs"], expected, atol=2e-6)


def test_a_cell_run_alone_has_no_note_on_its_outputs(tmp_path: Path, shell: Shell) -> None:
    """The next layer reads its outputs, and the user asked for this one."""

    def second(tf: TensorFlow, x: Tensor, m: Tensor) -> None:
        tf.tanh(one(tf, tf.identity(m), scope="top"))

    prefix = saved(tmp_path, lambda tf, x: one(tf, x, scope="low"), second)
    assert output_notes(shell, prefix, tmp_path)
    assert not output_notes(shell, prefix, tmp_path, "--cell", "low/lstm_cell")
